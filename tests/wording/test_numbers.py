import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradtrace.model import TensorStats
from gradtrace.wording.numbers import Scale, kind, number, shape, stats
from tests import builders


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (8.0, "8"),
        (50, "50"),
        (-0.246912, "-0.2469"),
        (0.5, "0.5"),
        (1.2e-7, "1.2e-07"),
        (0.10000000149, "0.1"),
        (12345, "12345"),
        (1.2e9, "1.2e+09"),
        (999999.7, "1e+06"),
        (-0.0, "0"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (True, "True"),
    ],
)
def test_a_number_reads_as_a_person_would_write_it(value, written):
    assert number(value) == written


@given(st.floats(-1e308, 1e308))
def test_a_number_keeps_four_significant_digits(value):
    assert math.isclose(float(number(value)), value, rel_tol=5.1e-4, abs_tol=1e-323)


@given(st.floats(allow_nan=False))
def test_no_number_has_a_needless_fraction_or_a_negative_zero(value):
    assert not number(value).endswith(".0")
    assert number(value) != "-0"


def test_a_0d_tensor_is_its_number():
    assert stats(builders.scalar(76.0)) == "76"


def test_a_small_tensor_is_its_values_and_a_large_one_its_shape_and_norm():
    assert stats(TensorStats((3,), norm=1.118, values=[1.0, -0.5, 0.0])) == "[1, -0.5, 0]"
    assert stats(TensorStats((2, 2), norm=5.0, values=[[1.0, 2.0], [3.0, 4.0]])) == "[[1, 2], [3, 4]]"
    assert stats(TensorStats((64, 256), norm=0.0312)) == "64×256 ‖0.0312‖"
    assert stats(TensorStats((100,), norm=7.071)) == "(100) ‖7.071‖"


def test_a_long_row_of_values_is_shortened():
    values = [i + 0.1234 for i in range(16)]
    text = stats(TensorStats((16,), norm=38.0, values=values))
    assert text == "[0.1234, 1.123, …, 15.12] ‖38‖"


def test_many_zeros_are_told_in_words():
    zeros = TensorStats((16,), norm=0.0, mean=0.0, min=0.0, max=0.0, zeros=1.0, values=[0.0] * 16)
    assert stats(zeros) == "(16) all 0"
    assert stats(TensorStats((2,), norm=0.0, min=0.0, max=0.0, zeros=1.0, values=[0.0, 0.0])) == "[0, 0]"


def test_none_zero_infinity_nan_and_no_numbers_all_look_different():
    tensors = {
        "none": None,
        "zero": TensorStats((64, 256), norm=0.0, mean=0.0, min=0.0, max=0.0, zeros=1.0),
        "inf": TensorStats((64, 256), norm=1.0, inf=3),
        "nan": TensorStats((64, 256), norm=1.0, nan=3),
        "unknown": TensorStats((64, 256), dtype="complex64", note="complex: no numbers"),
        "finite": TensorStats((64, 256), norm=1.0),
    }
    assert [kind(tensor) for tensor in tensors.values()] == list(tensors)
    assert len({stats(tensor) for tensor in tensors.values()}) == len(tensors)


def test_what_is_not_finite_is_counted_or_shown_in_its_place():
    assert stats(TensorStats((64, 256), nan=3, inf=1)) == "3 nan, 1 inf in 64×256"
    assert stats(TensorStats((3,), nan=1, values=[1.0, None, 0.5])) == "[1, nan, 0.5]"
    assert stats(builders.scalar(None)) == "nan"
    assert stats(TensorStats((), inf=1)) == "inf"


def test_an_underflowed_norm_is_not_taken_for_zeros():
    assert kind(TensorStats((2,), norm=0.0, min=1e-300, max=2e-300)) == "finite"


def test_empty_tensors_and_unknown_kinds_say_so():
    assert stats(TensorStats((0, 3), norm=0.0, values=[])) == "empty 0×3"
    assert stats(TensorStats((4, 4), note="sparse_coo: no numbers for this kind")).startswith("4×4 sparse_coo")
    assert shape((64,)) == "(64)"


def test_the_scale_runs_from_the_smallest_gradient_of_a_pass_to_the_largest():
    scale = Scale.of(builders.partials())
    assert (scale.low, scale.high) == (1.0, 50.0)
    assert scale.share(builders.scalar(1.0)) == 0
    assert scale.share(builders.scalar(50.0)) == 1
    assert scale.share(builders.scalar(math.sqrt(50.0))) == pytest.approx(0.5)


def test_gradients_that_are_all_alike_lie_in_the_middle_of_the_scale():
    assert Scale(3.0, 3.0).share(builders.scalar(3.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "tensor", [None, builders.scalar(None), builders.scalar(0.0), TensorStats((2,), note="sparse")]
)
def test_what_has_no_magnitude_lies_at_the_bottom_of_the_scale(tensor):
    assert Scale(1.0, 10.0).share(tensor) == 0
