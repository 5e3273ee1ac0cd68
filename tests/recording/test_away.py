"""The way of a GPU's tensors, walked with the CPU's: nothing waits, one transfer at the end, the same numbers."""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import gradtrace.recording.facts.collector as facts
import gradtrace.recording.forward.mode as forward
import gradtrace.recording.stats.device as away
import gradtrace.recording.stats.measure as statistics
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.recorder import Options, Recorder
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.routes import Route
from gradtrace.recording.stats.tensor_stats import to_stats

# Ops whose result Python has to see, or that copy to where Python can: on a GPU each would wait for the device.
WAITING = {
    "_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "_unique2", "allclose",
    "index", "repeat_interleave", "bincount", "is_pinned", "_pin_memory", "tolist", "isin",
}  # fmt: skip


class Device(TorchDispatchMode):
    """Counts the ops that would be kernels, and fails at one that waits."""

    def __init__(self):
        super().__init__()
        self.ops = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        assert name not in WAITING, f"{name} waits for the device"
        self.ops += [name] if not func.is_view and name not in {"empty", "detach"} else []
        return func(*args, **(kwargs or {}))


class Reading(torch.overrides.TorchFunctionMode):
    """Fails where a method reads the elements without any op."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert getattr(func, "__name__", "") not in {"tolist", "numpy", "item", "__bool__", "__float__", "__int__"}
        return func(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere(monkeypatch):
    """Take the CPU for a device that Python can't read, and let our own ops be seen."""
    monkeypatch.setattr(away, "HERE", set())
    for module in (statistics, forward):
        monkeypatch.setattr(module, "is_watched", lambda: False)
    monkeypatch.setattr(facts, "hidden", nullcontext)
    statistics._kinds.clear()
    yield
    statistics._kinds.clear()


def both(tensor):
    """Return what is found of a tensor here and as if it were elsewhere."""
    statistics._kinds.clear()
    here = to_stats(measure(tensor))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(away, "HERE", set())
        statistics._kinds.clear()
        measured = measure(tensor)
        assert measured[0].route in {Route.DEVICE, Route.SMALL_DEVICE}
        reduce_pending([measured])
        there = to_stats(measured)
    statistics._kinds.clear()
    return here, there


def assert_equal(here, there):
    assert (here.shape, here.dtype, here.device, here.nan, here.inf) == (
        there.shape, there.dtype, there.device, there.nan, there.inf,
    )  # fmt: skip
    assert (here.min, here.max, here.values) == (there.min, there.max, there.values)
    assert here.zeros == pytest.approx(there.zeros, abs=1e-12)
    for one, other in ((here.norm, there.norm), (here.mean, there.mean)):
        assert (one is None) == (other is None)
        if one is not None:
            assert one == pytest.approx(other, rel=1e-6, abs=1e-7 * max(abs(here.max or 0), abs(here.min or 0)))


DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SHAPES = [(), (0,), (3, 0), (5,), (4, 4), (17,), (3, 50), (40, 7, 2)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_dtype_and_shape_has_the_numbers_it_has_here(dtype, shape):
    torch.manual_seed(0)
    assert_equal(*both(torch.randn(shape, dtype=dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [[math.nan], [math.inf], [-math.inf, math.nan, math.nan, 0.0]])
@pytest.mark.parametrize("sign", [1, -1, None])
def test_what_is_not_finite_is_counted_and_left_out(dtype, bad, sign):
    torch.manual_seed(0)
    tensor = torch.randn(60, dtype=dtype)
    tensor = tensor if sign is None else tensor.abs().add(1) * sign
    tensor[: len(bad)] = torch.tensor(bad)
    assert_equal(*both(tensor))
    assert_equal(*both(torch.full((40,), bad[0], dtype=dtype)))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_that_leave_the_range_of_float64_do_not_spoil_the_norm(scale):
    torch.manual_seed(0)
    assert_equal(*both(torch.rand(50, dtype=torch.float64) * scale))


def test_views_of_all_kinds_have_the_numbers_they_have_here():
    torch.manual_seed(0)
    base = torch.randn(12, 10)
    views = [
        base.t(), base[:, 1:7], base[::2], base[:1].expand(12, 10), base[:, :1].expand(12, 10), base.unsqueeze(1),
        base.view(torch.float32)[3:4, 3:4], torch.randn(30, dtype=torch.cfloat).imag, torch.ones(3).expand(20, 3),
        torch.randn(25, dtype=torch.cfloat).conj().imag, torch.zeros(1).expand(0, 1), base[:2, :3].t(),
    ]  # fmt: skip
    for view in views:
        assert_equal(*both(view))


def test_large_tensors_are_reduced_in_chunks(monkeypatch):
    monkeypatch.setattr(away, "_CHUNK", 64)
    torch.manual_seed(0)
    for tensor in (torch.randn(1000), torch.rand(130, dtype=torch.float64) * 1e200, torch.full((65,), math.nan)):
        assert_equal(*both(tensor))
    broken = torch.rand(200) + 1
    broken[:70] = math.inf
    assert_equal(*both(broken))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32), min_size=0, max_size=40), st.sampled_from([torch.float32, torch.float64]))
def test_any_floats_have_the_numbers_they_have_here(values, dtype):
    assert_equal(*both(torch.tensor(values, dtype=dtype)))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(5, dtype=torch.cfloat),
        lambda: torch.eye(5).to_sparse(),
        lambda: torch.eye(5).to_sparse_csr(),
        lambda: torch.arange(50),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        lambda: torch.ones(50, device="meta"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(CSR|beta|nested tensors).*")
def test_other_kinds_have_a_note_rather_than_make_anyone_wait(make):
    tensor = make()
    with Device(), Reading():
        measured = measure(tensor)
    stats = to_stats(measured)
    assert stats.note.endswith("no numbers for this kind")
    assert stats.norm is None


def training(device_mode, **options):
    """Run a step in which every kind of gradient arises, under a mode that knows what waits."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 1))
    table = torch.nn.Embedding(10, 8, sparse=True)
    complex_leaf = torch.randn(20, dtype=torch.cfloat, requires_grad=True)
    with Recorder(Options(facts=True, **options)) as recorder:
        with Reading(), device_mode:
            hidden = net(table(torch.arange(10)))
            loss = hidden.square().mean() + (hidden.t() @ hidden).sum() + (complex_leaf * 2).abs().sum()
            loss = loss + hidden.half().float().expand(3, 10, 1).exp().sum()
            loss.backward()
        return recorder.trace


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("options", [{}, {"keep": frozenset()}, {"keep": frozenset({9})}])
@pytest.mark.parametrize("rows", [1, 2, 256])
def test_nothing_in_forward_and_backward_waits_for_the_device(options, rows, monkeypatch):
    monkeypatch.setattr(away, "_ROWS", rows)
    device = Device()
    trace = training(device, **options)
    assert device.ops.count("copy_") >= 8, "ours were not seen"
    assert rows > 1 or device.ops.count("nan_to_num_") >= 3 * 8
    assert len(trace.series) == 8
    norms = {row.name: row.norms for row in trace.series}
    assert norms["net.0.weight"][0] > 0
    assert norms["complex_leaf"] == [None]


def test_the_numbers_of_a_pass_are_those_it_has_here(monkeypatch):
    if NATIVE is None:  # without kernels of ours a look at a tensor here is an op, too
        monkeypatch.setattr(facts, "is_broken", lambda _: False)
    expected = training(Device())
    monkeypatch.setattr(away, "HERE", set())
    statistics._kinds.clear()
    found = training(Device())
    statistics._kinds.clear()
    pairs = zip(expected.passes[0].nodes, found.passes[0].nodes, strict=True)
    compared = 0
    for here, there in pairs:
        assert (here.op, here.name) == (there.op, there.name)
        for one, other in zip(here.grads + here.values, there.grads + there.values, strict=True):
            if one is not None and not one.note:
                assert_equal(one, other)
                compared += 1
    assert compared > 40


@pytest.mark.usefixtures("elsewhere")
def test_all_numbers_of_a_pass_come_over_in_one_batch(monkeypatch):
    fetched = []
    original = away._fetch
    monkeypatch.setattr(away, "_fetch", lambda same: fetched.append(len(same)) or original(same))
    net = torch.nn.Linear(20, 20)
    with Recorder() as recorder:
        net(torch.ones(3, 20)).tanh().sum().backward()
        assert fetched == []
        trace = recorder.trace
    assert len(fetched) == 1
    for node in trace.passes[0].nodes:
        for stats in node.grads + node.values:
            assert stats is None or stats.norm is not None


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("shape", "most"), [((), 1), ((4, 4), 1), ((500,), 1.1), ((512, 256), 3), ((2048, 1024), 26)])
def test_a_gradient_costs_few_kernels(shape, most):
    tensor = torch.ones(shape)
    measured = [measure(tensor)]  # else the first finds an empty place
    with Device() as device:
        measured += [statistics._measure(tensor) for _ in range(256)]
    assert 1 <= len(device.ops) / 256 <= most, device.ops[:20]
    reduce_pending(measured)
    assert all(to_stats(one) == to_stats(measured[0]) for one in measured)


def test_a_tensor_that_changes_later_has_the_numbers_it_had(monkeypatch):
    monkeypatch.setattr(away, "HERE", set())
    statistics._kinds.clear()
    tensor = torch.full((50,), 2.0)
    measured = measure(tensor)
    tensor.zero_()
    other = measure(tensor)
    reduce_pending([measured, other])
    statistics._kinds.clear()
    assert (to_stats(measured).max, to_stats(other).max) == (2, 0)


def test_what_nobody_wants_any_more_is_not_brought_over(monkeypatch):
    monkeypatch.setattr(away, "HERE", set())
    statistics._kinds.clear()
    for _ in range(600):
        measure(torch.ones(50))
    kept = measure(torch.full((50,), 3.0))
    assert len(away._waiting) == 1
    reduce_pending([kept])
    statistics._kinds.clear()
    assert to_stats(kept).mean == 3
    assert not away._batches


@pytest.mark.usefixtures("elsewhere")
def test_views_of_one_gradient_are_measured_once():
    x = torch.ones(40, 5, requires_grad=True)
    loss = (x.t().reshape(200).view(5, 40) * 2).sum()
    measured = []
    with Recorder() as recorder:
        loss.backward()
        measured += [
            m for event in recorder._kept[0].run.events for group in event[2:4] for m in group if m is not None
        ]
    assert len({id(m[1]) for m in measured if m[0].route == Route.DEVICE}) <= 3


@pytest.mark.usefixtures("elsewhere")
def test_few_gradients_are_held_until_the_numbers_come():
    away.fetch()  # of other tests
    kept = [measure(torch.ones(100_000)) for _ in range(100)]
    held = [batch._copies.untyped_storage().nbytes() for batch in away._batches.values()]
    rows = {id(found.tensor): found.tensor.untyped_storage().nbytes() for _, found in kept if found.tensor is not None}
    assert sum(held) <= 2**20 * 4
    assert sum(rows.values()) <= 100 * 100
