"""The operations that sympy knows: torch's names for them, and sums over an index in a form that stays readable."""

# ruff: noqa: N801 - lower-case names are those that the functions are printed by

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sympy as sp

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ELEMENTWISE", "NUMERIC", "REDUCING", "SAME", "Others", "Product", "Total", "is_indexed"]


def is_indexed(symbol: Any) -> bool:
    """Tell whether a symbol stands for each element of a tensor."""
    return bool(symbol.is_Symbol and symbol.name.endswith("_i"))


def _without_sums(expression: Any) -> tuple[Any, dict[Any, Any]]:
    """Return the expression with a letter for each sum in it, and the sums by letter."""
    found = [each for each in expression.atoms(Total, Product) if isinstance(each, (Total, Product))]
    outer = [each for each in found if not any(each is not other and other.has(each) for other in found)]
    letters = {each: sp.Dummy() for each in outer}
    return expression.xreplace(letters), {letter: each for each, letter in letters.items()}


def _varies(expression: Any) -> bool:
    return any(is_indexed(symbol) for symbol in _without_sums(expression)[0].free_symbols)


def _bracketed(printer: Any, body: Any) -> str:
    text = printer._print(body)  # noqa: SLF001 - sympy's way to print what is inside
    return rf"\left({text}\right)" if body.is_Add else str(text)


class Total(sp.Function):
    """The sum of an expression over the index i, which takes ``size`` values."""

    nargs = 2

    @classmethod
    def eval(cls, body: Any, size: Any) -> Any:
        """Take out what does not vary with the index."""
        if not _varies(body):
            return size * body
        if body.is_Add:
            return sp.Add(*(cls(term, size) for term in body.args))
        if body.is_Mul:
            fixed = [factor for factor in body.args if not _varies(factor)]
            if fixed:
                return sp.Mul(*fixed) * cls(sp.Mul(*(f for f in body.args if f not in fixed)), size)
        return None

    def _latex(self, printer: Any) -> str:
        return rf"\sum_i {_bracketed(printer, self.args[0])}"

    def _eval_derivative(self, symbol: Any) -> Any:
        body, size = self.args
        if not is_indexed(symbol):
            return Total(body.diff(symbol), size)
        plain, sums = _without_sums(body)
        through = [Total(plain.diff(letter), size) * each.diff(symbol) for letter, each in sums.items()]
        return sp.Add(plain.diff(symbol), *through).xreplace(sums)


class Others(sp.Function):
    """The product of an expression over all indices other than i."""

    nargs = 2

    def _latex(self, printer: Any) -> str:
        return rf"\prod_{{j \neq i}} {_bracketed(printer, self.args[0])}"

    def _eval_derivative(self, symbol: Any) -> Any:
        body, _ = self.args
        if is_indexed(symbol) or not body.has(symbol):
            return sp.Integer(0)  # by its own element; it is in none of the others
        return self * Total(body.diff(symbol) / body, self.args[1]) - self * body.diff(symbol) / body


class Product(sp.Function):
    """The product of an expression over the index i."""

    nargs = 2

    def _latex(self, printer: Any) -> str:
        return rf"\prod_i {_bracketed(printer, self.args[0])}"

    def _eval_derivative(self, symbol: Any) -> Any:
        body, size = self.args
        if is_indexed(symbol):
            return Others(body, size) * body.diff(symbol)
        return Total(Others(body, size) * body.diff(symbol), size)


class step(sp.Function):
    """1 above zero, 0 elsewhere: the slope that PyTorch gives relu."""

    def fdiff(self, _index: int = 1) -> Any:
        """Return 0, the slope nearly everywhere."""
        return sp.Integer(0)


class relu(sp.Function):
    """What is above zero."""

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


def _softplus(x: Any, beta: Any = 1, threshold: Any = 20) -> Any:
    if threshold != 20:  # noqa: PLR2004 - torch's default, beyond which the two are the same number
        raise TypeError("another threshold is another function")
    return softplus(beta * x) / beta


def _divided(a: Any, b: Any) -> Any:
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
    "silu": lambda a, inplace=False: a * sigmoid(a),  # noqa: ARG005
    "logsigmoid": lambda a: -softplus(-a),
}
# The same elements in the same order.
SAME = frozenset(
    ("clone", "contiguous", "float", "double", "view", "reshape", "flatten", "squeeze", "unsqueeze", "alias", "to")
)
REDUCING: dict[str, Callable[[Any, int], Any]] = {
    "sum": Total,
    "mean": lambda a, n: Total(a, n) / n,
    "prod": Product,
}


def _numeric() -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - only where values are put in

    def product(x: Any, n: float) -> Any:
        return np.prod(np.broadcast_to(x, int(n)))

    def others(x: Any, n: float) -> Any:
        row = np.broadcast_to(x, int(n))
        return np.array([np.prod(np.delete(row, at)) for at in range(int(n))])

    return {
        "Total": lambda x, n: np.sum(np.broadcast_to(x, int(n))),
        "Product": product,
        "Others": others,
        "step": lambda x: np.where(x > 0, 1.0, 0.0),
        "relu": lambda x: np.maximum(x, 0.0),
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.logaddexp(0.0, x),
        "erf": np.vectorize(math.erf, otypes=[float]),
    }


NUMERIC = _numeric
