"""The operations that sympy knows element by element, by torch's names for them."""

# ruff: noqa: N801 - lower-case names are those that the functions are printed by

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ELEMENTWISE", "detach", "sigmoid", "softplus"]


class _Condition(sp.Function):
    """1 where it holds, else 0; its slope is 0 nearly everywhere."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return the slope."""
        return sp.Integer(0)

    def _latex(self, printer: Any, exp: str = "") -> str:
        sign = " > " if len(self.args) == 1 else r" \geq "
        shown = [printer._print(each) for each in (*self.args, sp.Integer(0))[:2]]  # noqa: SLF001 - sympy's way
        return rf"\left[{sign.join(shown)}\right]{f'^{{{exp}}}' if exp else ''}"


class step(_Condition):
    """1 above zero: the slope that PyTorch gives relu."""


class above(_Condition):
    """1 where the first is not less than the second: the slope that PyTorch gives clamp."""


class relu(sp.Function):
    """The part of a number above zero."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return the slope."""
        return step(self.args[0])


class sigmoid(sp.Function):
    """1 / (1 + exp(-x))."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return the slope."""
        return self * (1 - self)


class softplus(sp.Function):
    """log(1 + exp(x))."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return the slope."""
        return sigmoid(self.args[0])


class detach(sp.Function):
    """The same number, with no gradient."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return the slope."""
        return sp.Integer(0)


def _softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    if threshold != 20:  # noqa: PLR2004 - torch's default, beyond which the two are the same number
        raise TypeError("another threshold is another function")
    return softplus(beta * x) / beta


def _leaky(x: Any, negative_slope: Any = 0.01, inplace: Any = False) -> Any:  # noqa: ARG001, FBT002
    return relu(x) + negative_slope * (x - relu(x))


def _clamped(x: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002 - torch's names
    if min is not None and max is not None:
        return _clamped(x, min) - relu(x - max)
    for bound in (min, max):
        if bound is not None and not bound.is_number:
            raise TypeError("a bound that is a tensor has a derivative, too")
    if min is not None:
        x = min + (x - min) * above(x, min)
    return x if max is None else x - relu(x - max)


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate != "none":
        return x * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Float(0.044715) * x**3))) / 2
    return x * (1 + sp.erf(x / sp.sqrt(2))) / 2


def _divided(a: Any, b: Any, rounding_mode: Any = None) -> Any:
    if rounding_mode is not None:
        raise TypeError("a rounded quotient is another function")
    return a / b


_TRIGONOMETRIC = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1: a + alpha * b,
    "sub": lambda a, b, alpha=1: a - alpha * b,
    "subtract": lambda a, b: a - b,
    "rsub": lambda a, b, alpha=1: b - alpha * a,
    "mul": lambda a, b: a * b,
    "multiply": lambda a, b: a * b,
    "rmul": lambda a, b: a * b,
    "div": _divided,
    "divide": _divided,
    "truediv": _divided,
    "true_divide": _divided,
    "rdiv": lambda a, b: b / a,
    "rtruediv": lambda a, b: b / a,
    "pow": lambda a, b: a**b,
    "rpow": lambda a, b: b**a,
    "neg": lambda a: -a,
    "negative": lambda a: -a,
    "positive": lambda a: a,
    "abs": sp.Abs,
    "absolute": sp.Abs,
    "square": lambda a: a**2,
    "sqrt": sp.sqrt,
    "rsqrt": lambda a: 1 / sp.sqrt(a),
    "reciprocal": lambda a: 1 / a,
    "exp": sp.exp,
    "exp2": lambda a: 2**a,
    "expm1": lambda a: sp.exp(a) - 1,
    "log": sp.log,
    "log2": lambda a: sp.log(a) / sp.log(2),
    "log10": lambda a: sp.log(a) / sp.log(10),
    "log1p": lambda a: sp.log(1 + a),
    **{name: getattr(sp, name) for name in _TRIGONOMETRIC},
    **{f"a{name}": getattr(sp, f"a{name}") for name in _TRIGONOMETRIC},
    **{f"arc{name}": getattr(sp, f"a{name}") for name in _TRIGONOMETRIC},
    "erf": sp.erf,
    "relu": lambda a, inplace=False: relu(a),  # noqa: ARG005 - the result is the same
    "sigmoid": sigmoid,
    "softplus": _softplus,
    "leaky_relu": _leaky,
    "clamp": _clamped,
    "clip": _clamped,
    "clamp_min": _clamped,
    "clamp_max": lambda a, most: _clamped(a, None, most),
    "gelu": _gelu,
    "silu": lambda a, inplace=False: a * sigmoid(a),  # noqa: ARG005
    "logsigmoid": lambda a: -softplus(-a),
}
