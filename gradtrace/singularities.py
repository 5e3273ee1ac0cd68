"""Singularities of PyTorch's functions: operands at which a value or a derivative is not finite.

A reason is given only where it holds for the numbers at hand; ``tests/test_singularities.py`` runs each function
alone on its example and on a grid of numbers, and compares. To add one: a Point in one of the two tables.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LARGEST", "SLOPES", "VALUES", "Point", "overflow", "slope_at", "slope_overflow", "value_at"]

INF, NAN = math.inf, math.nan
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4028235e38, "float64": 1.7976931e308}


class Point(Struct, frozen=True):
    """Operands at which a function's value, or its derivative by one of them, is not finite.

    Args:
        holds: whether these operands are such.
        becomes: what the value or the derivative is there.
        said: why, in a sentence.
        remedy: what to write instead.
        example: operands at which it holds.
        by: the operand that the derivative is by.
    """

    holds: Callable[..., bool]
    becomes: float
    said: str
    remedy: str
    example: tuple[float, ...]
    by: int = 0


_LOG = "torch.log(x.clamp(min=eps)), or log_softmax / binary_cross_entropy_with_logits on the logits"
_ROOT = "torch.sqrt(x + eps), or x.clamp(min=eps).sqrt()"
_UNIT = "x.clamp(-1 + eps, 1 - eps)"
_LOGIT = "torch.logit(x, eps=1e-6), or keep the logits instead of the probabilities"
_DIVIDE = "add eps to the denominator, or replace its zeros before dividing: x / torch.where(d == 0, 1, d)"
_BASE = "clamp the base above 0: x.clamp(min=eps) ** p"
_FACTOR = "torch.where or masked_fill, which choose, in place of a product with a mask"
_ABOVE = "x.clamp(min=1 + eps)"


def _logarithm(name: str, zero: float = 0.0) -> tuple[Point, ...]:
    at, below = f"{zero:g}", "a negative number" if zero == 0 else f"a number below {zero:g}"
    remedy = _LOG.replace("torch.log(", f"torch.{name}(") if zero == 0 else f"torch.{name}(x.clamp(min={zero:g} + eps))"
    return (
        Point(lambda x: x == zero, -INF, f"{name} of {at} is -infinity", remedy, (zero,)),
        Point(lambda x: x < zero, NAN, f"{name} of {below} is no real number", remedy, (zero - 1,)),
    )


def _outside_unit(name: str) -> tuple[Point, ...]:
    return (Point(lambda x: abs(x) > 1, NAN, f"{name} outside [-1, 1] is no real number", _UNIT, (1.5,)),)


VALUES: dict[str, tuple[Point, ...]] = {
    "log": _logarithm("log"),
    "log2": _logarithm("log2"),
    "log10": _logarithm("log10"),
    "log1p": _logarithm("log1p", -1.0),
    "sqrt": (
        Point(lambda x: x < 0, NAN, "sqrt of a negative number is no real number",
              "clamp its input at 0 (rounding makes small negatives): x.clamp(min=0).sqrt()", (-1.0,)),
    ),
    "rsqrt": (
        Point(lambda x: x == 0, INF, "rsqrt of 0 is 1/sqrt(0), infinite", "torch.rsqrt(x + eps)", (0.0,)),
        Point(lambda x: x < 0, NAN, "rsqrt of a negative number is no real number", "clamp its input above 0", (-1.0,)),
    ),
    "reciprocal": (Point(lambda x: x == 0, INF, "1/0 is infinite", "add eps to x", (0.0,)),),
    "div": (
        Point(lambda x, y: y == 0 and x == 0, NAN, "0/0 is NaN", _DIVIDE, (0.0, 0.0)),
        Point(lambda x, y: y == 0 and x > 0, INF, "a division by 0", _DIVIDE, (5.0, 0.0)),
        Point(lambda x, y: y == 0 and x < 0, -INF, "a division by 0", _DIVIDE, (-5.0, 0.0)),
        Point(lambda x, y: math.isinf(x) and math.isinf(y), NAN, "infinity/infinity is NaN",
              "keep both finite: subtract the maximum before exp, or divide logarithms", (INF, INF)),
    ),
    "fmod": (Point(lambda _, y: y == 0, NAN, "the remainder of a division by 0 is NaN", _DIVIDE, (5.0, 0.0)),),
    "remainder": (Point(lambda _, y: y == 0, NAN, "the remainder of a division by 0 is NaN", _DIVIDE, (5.0, 0.0)),),
    "addcdiv": (
        Point(lambda _, a, b: b == 0 and a == 0, NAN, "its quotient is 0/0", _DIVIDE, (1.0, 0.0, 0.0)),
        Point(lambda x, a, b: math.isfinite(x) and b == 0 and a > 0, INF, "its quotient is a division by 0", _DIVIDE,
              (1.0, 2.0, 0.0)),
        Point(lambda x, a, b: math.isfinite(x) and b == 0 and a < 0, -INF, "its quotient is a division by 0", _DIVIDE,
              (1.0, -2.0, 0.0)),
    ),
    "pow": (
        Point(lambda x, p: x == 0 and p < 0, INF, "0 to a negative power is infinite", _BASE, (0.0, -1.5)),
        Point(lambda x, p: x < 0 and math.isfinite(x) and math.isfinite(p) and p != round(p), NAN,
              "a negative number to a fractional power is no real number", _BASE, (-2.0, 0.5)),
    ),
    "acos": _outside_unit("acos"),
    "asin": _outside_unit("asin"),
    "acosh": (Point(lambda x: x < 1, NAN, "acosh below 1 is no real number", _ABOVE, (0.5,)),),
    "atanh": (
        Point(lambda x: x == 1, INF, "atanh of 1 is infinite", _UNIT, (1.0,)),
        Point(lambda x: x == -1, -INF, "atanh of -1 is -infinity", _UNIT, (-1.0,)),
        *_outside_unit("atanh"),
    ),
    "logit": (
        Point(lambda x: x == 0, -INF, "logit of 0 is -infinity", _LOGIT, (0.0,)),
        Point(lambda x: x == 1, INF, "logit of 1 is infinite", _LOGIT, (1.0,)),
        Point(lambda x: x < 0 or x > 1, NAN, "logit outside [0, 1] is no real number", _LOGIT, (1.5,)),
    ),
    "erfinv": (
        Point(lambda x: x == 1, INF, "erfinv of 1 is infinite", _UNIT, (1.0,)),
        Point(lambda x: x == -1, -INF, "erfinv of -1 is -infinity", _UNIT, (-1.0,)),
        *_outside_unit("erfinv"),
    ),
    "lgamma": (
        Point(lambda x: x <= 0 and float(x).is_integer(), INF, "lgamma is infinite at 0 and at negative whole numbers",
              "x.clamp(min=eps)", (0.0,)),
    ),
    "mul": (
        Point(lambda x, y: 0 in (x, y) and math.isinf(x + y), NAN, "0 times infinity is NaN", _FACTOR, (0.0, INF)),
    ),
    "add": (
        Point(lambda x, y: math.isinf(x) and x == -y, NAN, "infinity minus infinity is NaN",
              "keep one of both finite, or mask before the infinity comes about", (INF, -INF)),
    ),
    "sub": (
        Point(lambda x, y: math.isinf(x) and x == y, NAN, "infinity minus infinity is NaN",
              "keep one of both finite, or mask before the infinity comes about", (INF, INF)),
    ),
    **{
        name: (Point(math.isinf, NAN, f"{name} of infinity is NaN", "keep its input finite", (INF,)),)
        for name in ("sin", "cos", "tan")
    },
}  # fmt: skip

SLOPES: dict[str, tuple[Point, ...]] = {
    "sqrt": (
        Point(lambda x: x == 0, INF, "sqrt at 0 has the derivative 1/(2·sqrt(0)) = infinity", _ROOT, (0.0,)),
        Point(lambda x: x < 0, NAN, "sqrt has no derivative below 0", _ROOT, (-1.0,)),
    ),
    "rsqrt": (
        Point(lambda x: x == 0, -INF, "rsqrt at 0 has the derivative -1/2 · 0^(-3/2) = -infinity", "add eps inside",
              (0.0,)),
        Point(lambda x: x < 0, NAN, "rsqrt has no derivative below 0", "clamp its input above 0", (-1.0,)),
    ),
    **{
        name: (Point(lambda x: x == 0, INF, f"{name} at 0 has the derivative 1/0 = infinity",
                     f"torch.{name}(x.clamp(min=eps)), or log_softmax on the logits", (0.0,)),)
        for name in ("log", "log2", "log10")
    },
    "log1p": (
        Point(lambda x: x == -1, INF, "log1p at -1 has the derivative 1/0 = infinity",
              "torch.log1p(x.clamp(min=-1 + eps))", (-1.0,)),
    ),
    "reciprocal": (Point(lambda x: x == 0, -INF, "1/x at 0 has the derivative -1/0² = -infinity", "add eps to x",
                         (0.0,)),),
    "div": (
        Point(lambda _, y: y == 0, INF, "the denominator is 0, and dividing by 0 has the derivative 1/0 = infinity",
              _DIVIDE, (5.0, 0.0)),
        Point(lambda x, y: y == 0 and x > 0, -INF, "dividing by 0 has the derivative -x/0² = -infinity by the "
              "denominator", _DIVIDE, (5.0, 0.0), 1),
        Point(lambda x, y: y == 0 and x < 0, INF, "dividing by 0 has the derivative -x/0² = infinity by the "
              "denominator", _DIVIDE, (-5.0, 0.0), 1),
        Point(lambda x, y: y == 0 and x == 0, NAN, "0/0 has no derivative", _DIVIDE, (0.0, 0.0), 1),
    ),
    "pow": (
        Point(lambda x, p: x == 0 and 0 < p < 1, INF, "a power below 1 has an infinite derivative at 0: p·0^(p-1)",
              _BASE, (0.0, 0.5)),
        Point(lambda x, p: x == 0 and p < 0, -INF, "a negative power has an infinite derivative at 0: p·0^(p-1)",
              _BASE, (0.0, -1.5)),
        Point(lambda x, p: x < 0 and math.isfinite(x) and math.isfinite(p) and p != round(p), NAN,
              "a fractional power has no derivative below 0", _BASE, (-2.0, 0.5)),
    ),
    "acos": (
        Point(lambda x: abs(x) == 1, -INF, "acos at ±1 has the derivative -1/sqrt(1-1) = -infinity", _UNIT, (1.0,)),
        Point(lambda x: abs(x) > 1, NAN, "acos has no derivative outside [-1, 1]", _UNIT, (1.5,)),
    ),
    "asin": (
        Point(lambda x: abs(x) == 1, INF, "asin at ±1 has the derivative 1/sqrt(1-1) = infinity", _UNIT, (1.0,)),
        Point(lambda x: abs(x) > 1, NAN, "asin has no derivative outside [-1, 1]", _UNIT, (1.5,)),
    ),
    "acosh": (
        Point(lambda x: x == 1, INF, "acosh at 1 has the derivative 1/sqrt(1-1) = infinity", _ABOVE, (1.0,)),
        Point(lambda x: -1 < x < 1, NAN, "acosh has no derivative below 1", _ABOVE, (0.5,)),
    ),
    "atanh": (Point(lambda x: abs(x) == 1, INF, "atanh at ±1 has the derivative 1/(1-1) = infinity", _UNIT, (1.0,)),),
    "logit": (
        Point(lambda x: x in (0, 1), INF, "logit at 0 and 1 has the derivative 1/0 = infinity", _LOGIT, (0.0,)),
        Point(lambda x: x < 0 or x > 1, NAN, "logit has no derivative outside [0, 1]", _LOGIT, (1.5,)),
    ),
    "erfinv": (Point(lambda x: abs(x) == 1, INF, "erfinv at ±1 has an infinite derivative", _UNIT, (1.0,)),),
}  # fmt: skip

_EXACT: dict[str, Callable[..., float]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "pow": operator.pow,
    "exp": math.exp, "exp2": lambda x: 2.0**x, "expm1": math.expm1, "sinh": math.sinh, "cosh": math.cosh,
    "square": lambda x: x * x, "reciprocal": lambda x: 1 / x,
}  # fmt: skip
_SPELLED = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} · {}", "div": "{} / {}", "pow": "{}^{}", "square": "{}²"}
SMOOTHER = dict.fromkeys(
    ("exp", "exp2", "expm1", "sinh", "cosh"), "subtract the maximum first, or use logsumexp / softmax / log1p"
)


# Derivatives by an operand, of functions that have one without a bound.
_DERIVATIVES: dict[tuple[str, int], Callable[..., float]] = {
    ("reciprocal", 0): lambda x: -1 / x / x, ("div", 0): lambda _, y: 1 / y, ("div", 1): lambda x, y: -x / y / y,
    ("log", 0): lambda x: 1 / x, ("sqrt", 0): lambda x: 0.5 * x**-0.5, ("rsqrt", 0): lambda x: -0.5 * x**-1.5,
    ("pow", 0): lambda x, p: p * x ** (p - 1),
}  # fmt: skip


def slope_overflow(function: str, operands: Sequence[float], by: int, arrived: float, dtype: str) -> str:
    """Return how a gradient times the derivative by an operand goes beyond its dtype; nothing where it does not.

    >>> slope_overflow("reciprocal", [1e-30], 0, 1.0, "float32")
    'its derivative there is -1e+60, and 1 times that is beyond float32, which ends at 3.4028e+38'
    """
    derivative, limit = _DERIVATIVES.get((function, by)), LARGEST.get(dtype)
    if derivative is None or limit is None or not all(map(math.isfinite, operands)):
        return ""
    try:
        slope = derivative(*operands)
    except (OverflowError, ZeroDivisionError, ValueError, TypeError):
        return ""
    if isinstance(slope, complex) or abs(slope * arrived) <= limit:
        return ""
    product = f"its derivative there is {slope:.5g}, and {arrived:.5g} times that"
    return f"{product} is beyond {dtype}, which ends at {limit:.5g}"


def value_at(function: str, operands: Sequence[float]) -> Point | None:
    """Return why the function's value is not finite at these operands; None where nothing can be proven.

    >>> value_at("log", [0.0]).said, value_at("log", [2.0])
    ('log of 0 is -infinity', None)
    """
    return _first(VALUES.get(function, ()), operands, None)


def slope_at(function: str, operands: Sequence[float], by: int = 0) -> Point | None:
    """Return why the function's derivative by one of its operands is not finite there; None where it can't be proven.

    >>> slope_at("pow", [0.0, 0.5]).becomes, slope_at("pow", [0.0, 2.0])
    (inf, None)
    """
    return _first(SLOPES.get(function, ()), operands, by)


def _first(points: tuple[Point, ...], operands: Sequence[float], by: int | None) -> Point | None:
    for point in points:
        if by in (None, point.by) and len(point.example) == len(operands) and point.holds(*operands):
            return point
    return None


def overflow(function: str, operands: Sequence[float], dtype: str) -> str:
    """Return how a value of finite operands goes beyond its dtype, in numbers; nothing where it does not.

    >>> overflow("add", [3e38, 1e38], "float32")
    '3e+38 + 1e+38 is 4e+38, and float32 ends at 3.4028e+38'
    """
    exact, limit = _EXACT.get(function), LARGEST.get(dtype)
    if exact is None or limit is None or not all(map(math.isfinite, operands)):
        return ""
    try:
        value = exact(*operands)
    except (OverflowError, ZeroDivisionError, ValueError, TypeError) as error:
        value = INF if isinstance(error, OverflowError) else 0.0
    if isinstance(value, complex) or abs(value) <= limit:
        return ""
    shown = [f"{x:.5g}" if x >= 0 or function not in {"pow", "square"} else f"({x:.5g})" for x in operands]
    size = f"is {value:.5g}" if math.isfinite(value) else "is larger still"
    return f"{_SPELLED.get(function, f'{function}({{}})').format(*shown)} {size}, and {dtype} ends at {limit:.5g}"
