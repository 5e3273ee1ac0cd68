"""Reasons for values and derivatives that are not finite: each function runs alone on the operands that are named."""

from __future__ import annotations

import itertools
import math

import pytest

from gradtrace.singularities import SLOPES, VALUES, overflow, slope_at, slope_overflow, value_at

GRID = [-math.inf, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf]
POINTS = [(name, point) for name, points in VALUES.items() for point in points]
SLOPE_POINTS = [(name, point) for name, points in SLOPES.items() for point in points]


def computed(name, operands, by=None):
    """The function's value, or its derivative by one of its operands, by PyTorch alone."""
    import torch  # noqa: PLC0415 - 1.5 s

    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in operands]
    given = [*tensors[:1], operands[1]] if name == "pow" and by == 0 else tensors
    value = getattr(torch, name)(*given)
    if by is None:
        return value.item()
    return torch.autograd.grad(value, tensors[by])[0].item()


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == b


@pytest.mark.parametrize(("name", "point"), POINTS)
def test_the_value_at_a_point_is_what_the_table_says(name, point):
    assert point.holds(*point.example)
    assert same(computed(name, point.example), point.becomes)


@pytest.mark.parametrize(("name", "point"), SLOPE_POINTS)
def test_the_derivative_at_a_point_is_what_the_table_says(name, point):
    assert point.holds(*point.example)
    assert same(computed(name, point.example, point.by), point.becomes)


def grid(points):
    return itertools.product(GRID, repeat=len(points[0].example))


@pytest.mark.parametrize("name", VALUES)
def test_no_reason_is_given_where_the_value_is_another_one(name):
    for operands in grid(VALUES[name]):
        point = value_at(name, operands)
        assert point is None or same(computed(name, operands), point.becomes), (operands, point)


@pytest.mark.parametrize("name", SLOPES)
def test_no_reason_is_given_where_the_derivative_is_another_one(name):
    for operands in grid(SLOPES[name]):
        for by in range(len(operands)):
            point = slope_at(name, operands, by)
            assert point is None or same(computed(name, operands, by), point.becomes), (operands, by, point)


@pytest.mark.parametrize("name", VALUES)
def test_each_value_that_is_not_finite_at_finite_operands_has_its_reason(name):
    for operands in grid(VALUES[name]):
        if all(map(math.isfinite, operands)) and not math.isfinite(computed(name, operands)):
            assert value_at(name, operands) is not None, operands


OVERFLOWS = [
    ("add", (40000.0, 40000.0), "float16"), ("sub", (3e38, -1e38), "float32"), ("mul", (300.0, 300.0), "float16"),
    ("pow", (300.0, 2.0), "float16"), ("exp", (89.0,), "float32"), ("exp", (12.0,), "float16"),
    ("div", (1.0, 1e-320), "float64"),
    ("square", (1e20,), "float32"), ("cosh", (100.0,), "float32"), ("sinh", (-100.0,), "float32"),
    ("expm1", (800.0,), "float64"), ("exp2", (128.0,), "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operands", "dtype"), OVERFLOWS)
def test_an_overflow_that_is_told_is_one(name, operands, dtype):
    import torch  # noqa: PLC0415 - 1.5 s

    def value(numbers):
        return getattr(torch, name)(*(torch.tensor(x, dtype=getattr(torch, dtype)) for x in numbers)).item()

    assert overflow(name, operands, dtype)
    assert math.isinf(value(operands))
    assert not overflow(name, [1.0] * len(operands), dtype)
    assert math.isfinite(value([1.0] * len(operands)))


STEEP = [
    ("reciprocal", (1e-30,), 0), ("div", (1.0, 1e-39), 0), ("div", (1.0, 1e-20), 1), ("log", (1e-39,), 0),
    ("rsqrt", (1e-30,), 0), ("pow", (1e-20, -1.0), 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "operands", "by"), STEEP)
def test_a_slope_that_is_said_to_be_beyond_float32_is_infinite_there(name, operands, by):
    import torch  # noqa: PLC0415 - 1.5 s

    tensors = [torch.tensor(x, requires_grad=True) for x in operands]
    given = [*tensors[:1], operands[1]] if name == "pow" else tensors
    (slope,) = torch.autograd.grad(getattr(torch, name)(*given), tensors[by])
    assert slope.isinf()
    assert slope_overflow(name, operands, by, 1.0, "float32")
    assert not slope_overflow(name, [1.0] * len(operands), by, 1.0, "float32")
