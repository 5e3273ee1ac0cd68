"""Statistics against NumPy in float64: all dtypes, shapes, strides and kinds of elements."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtrace.recording.stats.measure as statistics
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats

REAL = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# Around the sizes at which another way of measuring begins.
SIZES = [0, 1, 2, 15, 16, 17, 4095, 4096, 4097, 131_071, 131_072, 131_073]


@pytest.fixture(params=["compiled", "python", "torch"])
def _way(request, monkeypatch):
    """Measure by the compiled part, by Python around its kernel, and by torch's own kernels."""
    if request.param == "torch":
        monkeypatch.setattr(statistics, "_kinds", {})
        monkeypatch.setattr(statistics, "COMPILED_TYPES", set())
    elif NATIVE is None:
        pytest.skip("not compiled here")
    if request.param != "compiled":
        monkeypatch.setattr(statistics, "measure", statistics.measure_in_python)


every_way = pytest.mark.usefixtures("_way")


def stats_of(tensor):
    measured = statistics.measure(tensor)
    reduce_pending([measured])
    return to_stats(measured)


def exact(tensor):
    """The elements in float64, by NumPy; extended precision where squares could leave its range."""
    return tensor.detach().resolve_neg().to(torch.float64).contiguous().numpy().reshape(-1)


def check(tensor, rel=1e-5):
    found = stats_of(tensor)
    elements = exact(tensor)
    finite = elements[np.isfinite(elements)].astype(np.longdouble)
    assert found.shape == tuple(tensor.shape)
    assert found.dtype == str(tensor.dtype).removeprefix("torch.")
    assert (found.nan, found.inf) == (np.isnan(elements).sum(), np.isinf(elements).sum())
    if not finite.size:
        assert (found.mean, found.min, found.max) == (None, None, None)
        assert found.norm == (0.0 if not elements.size else None)
    else:
        mean, scale = float(finite.mean()), float(np.abs(finite).mean())
        assert found.norm == pytest.approx(float(np.sqrt((finite**2).sum())), rel=rel, abs=0)
        assert found.mean == pytest.approx(mean, rel=rel, abs=rel * scale)
        assert (found.min, found.max) == (finite.min(), finite.max())
    zeros = np.count_nonzero(elements == 0) / elements.size if elements.size else 0.0
    assert found.zeros == pytest.approx(zeros, abs=1e-12)
    assert (found.values is None) == (tensor.numel() > 16)
    return found


@every_way
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("size", SIZES)
def test_statistics_are_those_of_numpy_in_float64(size, dtype):
    torch.manual_seed(size)
    check(torch.randn(size).to(dtype))


@every_way
@pytest.mark.parametrize("dtype", REAL)
@pytest.mark.parametrize("size", [1, 3, 16, 17, 4097, 131_073])
def test_nan_infinity_and_zeros_are_counted_and_left_out(size, dtype):
    torch.manual_seed(size)
    tensor = torch.randn(size).to(dtype)
    kinds = torch.randint(0, 6, (size,))
    for kind, value in enumerate([math.nan, math.inf, -math.inf, 0.0, -0.0]):
        tensor[kinds == kind] = value
    check(tensor)


@every_way
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0])
@pytest.mark.parametrize("size", [1, 16, 17, 4097])
def test_a_tensor_of_one_special_value_has_only_the_numbers_that_exist(size, value):
    check(torch.full((size,), value))


@every_way
@pytest.mark.parametrize("size", [1, 16, 17, 4097, 131_073])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float16, 6e4), (torch.float16, 6e-8), (torch.bfloat16, 3e38), (torch.bfloat16, 1e-38),
     (torch.float32, 3e38), (torch.float32, 1e-38), (torch.float32, 1e-44), (torch.float64, 1e300),
     (torch.float64, 1e-300)],
)  # fmt: skip
def test_squares_that_leave_the_range_do_not_spoil_the_norm(size, dtype, scale):
    check(torch.full((size,), scale, dtype=dtype), rel=1e-3 if dtype == torch.float16 else 1e-5)


@every_way
@pytest.mark.parametrize("dtype", REAL)
def test_sums_that_leave_the_range_do_not_spoil_the_mean(dtype):
    largest = torch.finfo(dtype).max
    check(torch.tensor([largest, -largest] * 3, dtype=dtype) / 4)
    check(torch.full((6,), largest / 3, dtype=dtype))
    if dtype != torch.float64:
        check(torch.full((5000,), largest / 2, dtype=dtype))
        check(torch.tensor([largest, -largest] * 3000, dtype=dtype))


@every_way
@pytest.mark.parametrize("size", [4, 5000])
def test_a_norm_that_float64_cannot_hold_is_not_told(size):
    found = stats_of(torch.full((size,), torch.finfo(torch.float64).max, dtype=torch.float64))
    assert found.norm is None
    assert found.max == torch.finfo(torch.float64).max


@st.composite
def strided(draw):
    """A tensor of up to four dimensions, made dense, sliced, transposed, expanded, flipped or offset."""
    shape = draw(st.lists(st.integers(0, 9), max_size=4))
    torch.manual_seed(sum(shape))
    tensor = torch.randn(shape, dtype=draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])))
    for step in draw(
        st.lists(st.sampled_from(["transpose", "slice", "expand", "flip", "offset", "scale"]), max_size=4)
    ):
        if step == "transpose" and tensor.dim() > 1:
            tensor = tensor.transpose(0, -1)
        elif step == "slice" and tensor.dim():
            tensor = tensor[..., ::2]
        elif step == "expand" and tensor.dim() < 6:
            tensor = tensor.unsqueeze(0).expand(draw(st.integers(1, 9)), *tensor.shape)
        elif step == "flip" and tensor.dim():
            tensor = tensor.flip(0)
        elif step == "offset" and tensor.dim() and tensor.shape[0] > 1:
            tensor = tensor[1:]
        elif step == "scale":
            tensor = tensor * 0
    return tensor


@every_way
@settings(max_examples=150, deadline=None, suppress_health_check=["function_scoped_fixture"])
@given(strided())
def test_how_the_elements_lie_in_memory_makes_no_difference(tensor):
    found = check(tensor)
    assert found.values == (tensor.tolist() if tensor.numel() <= 16 else None)


@every_way
@pytest.mark.parametrize("size", [9, 300, 5000])
def test_overlapping_windows_count_each_element_as_often_as_it_stands_there(size):
    check(torch.randn(size).unfold(0, 4, 1))
    check(torch.randn(size).as_strided((size // 2, 3), (1, 2)))


@every_way
@pytest.mark.parametrize("size", [5, 300, 5000])
def test_a_lazily_negated_tensor_is_read_as_what_it_is(size):
    tensor = torch.randn(size, dtype=torch.complex64).conj().imag
    assert tensor.is_neg()
    check(tensor)


@every_way
def test_autograds_tensors_of_zeros_without_memory_are_zeros():
    tensor = torch._efficientzerotensor((40, 5))
    found = stats_of(tensor)
    assert (found.shape, found.norm, found.zeros) == ((40, 5), 0.0, 1.0)


@every_way
def test_a_tensor_whose_memory_was_freed_is_not_read():
    tensor = torch.randn(5000)
    tensor.untyped_storage().resize_(0)
    found = stats_of(tensor)
    assert found.shape == (5000,)
    assert found.norm is None


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("size", [0, 1, 17, 5000])
def test_complex_tensors_have_the_norm_of_numpy(size, dtype):
    torch.manual_seed(size)
    tensor = torch.randn(size, dtype=dtype)
    if size > 3:
        tensor[:3] = torch.tensor([0j, complex(math.nan, 1), complex(1, math.inf)], dtype=dtype)
    found = stats_of(tensor)
    elements = tensor.numpy().astype(np.complex128)
    finite = elements[np.isfinite(elements)]
    assert found.norm == pytest.approx(np.linalg.norm(finite), rel=1e-6)
    assert (found.nan, found.inf) == (np.isnan(elements).sum(), np.isinf(elements).sum())
    assert found.zeros == pytest.approx((elements == 0).mean() if size else 0.0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
@pytest.mark.parametrize("size", [1, 16, 17, 5000])
def test_integers_are_measured_like_other_numbers(size, dtype):
    torch.manual_seed(size)
    check(torch.randint(0, 2 if dtype == torch.bool else 100, (size,)).to(dtype))


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc", "bsr", "hybrid"])
def test_a_sparse_tensor_has_the_statistics_of_its_dense_form(layout):
    torch.manual_seed(1)
    dense = torch.randn(40, 30) * (torch.rand(40, 30) > 0.9)
    sparse = {
        "coo": lambda: dense.to_sparse(),
        "uncoalesced": lambda: torch.sparse_coo_tensor(
            torch.tensor([[0, 0, 5], [1, 1, 2]]), torch.tensor([1.0, 2.0, -4.0]), (40, 30), check_invariants=True
        ),
        "csr": lambda: dense.to_sparse_csr(),
        "csc": lambda: dense.to_sparse_csc(),
        "bsr": lambda: dense.to_sparse_bsr((5, 5)),
        "hybrid": lambda: dense.to_sparse(1),
    }[layout]()
    found, expected = stats_of(sparse), stats_of(sparse.to_dense())
    assert "stored" in found.note
    for name in ("shape", "dtype", "norm", "mean", "min", "max", "zeros", "nan", "inf"):
        same = getattr(expected, name)
        assert getattr(found, name) == (pytest.approx(same, rel=1e-5, abs=1e-7) if name != "dtype" else same), name


def test_an_empty_sparse_tensor_is_all_zeros():
    found = stats_of(torch.zeros(4, 4).to_sparse())
    assert (found.norm, found.mean, found.min, found.max, found.zeros) == (0, 0, 0, 0, 1)


class Refusing(torch.Tensor):
    """A subclass on which every function raises."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(func.__name__)


class Wrapping(torch.Tensor):
    """A subclass without elements of its own, whose every operation raises."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(func.__name__)


ODD = {
    "refusing": lambda: torch.ones(3).as_subclass(Refusing),
    "wrapping": lambda: Wrapping(torch.ones(3)),
    "meta": lambda: torch.ones(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "nested, strided": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "many float8": lambda: torch.ones(300).to(torch.float8_e4m3fn),
    "complex32": lambda: torch.ones(3, dtype=torch.complex32),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "mkldnn": lambda: torch.ones(3).to_mkldnn(),
    "lazy": lambda: torch.nn.parameter.UninitializedParameter(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_of_an_odd_kind_there_is_at_worst_a_note(name):
    found = stats_of(ODD[name]())
    assert found.note or found.norm == pytest.approx(math.sqrt(math.prod(found.shape)), rel=0.1)
    if name not in {"nested", "nested, strided", "lazy"}:
        assert found.shape in {(3,), (300,)}
