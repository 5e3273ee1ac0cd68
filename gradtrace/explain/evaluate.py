"""The numbers of an expression per element: arrays with a letter for each index, put together with numpy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import sympy as sp

from gradtrace.explain.indices import At, Index, Largest, Others, Product, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Array = np.ndarray[Any, Any]

__all__ = ["TooLargeError", "evaluate"]

LARGEST = 2**24  # elements of one array: 128 MB


class Holder(Protocol):
    """Values of symbols: an array with one axis for each index of its elements."""

    def __getitem__(self, symbol: Any, /) -> Array:
        """Return what a symbol holds; raises KeyError if it is not known."""


class TooLargeError(ValueError):
    """An expression that takes more memory than an explanation is worth."""


class _Labelled(NamedTuple):
    """An array, and the index that each of its axes stands for."""

    array: Array
    labels: tuple[Any, ...]


def evaluate(expression: Any, indices: Sequence[Any], values: Holder) -> Array:
    """Return what an expression is for all values of these indices, in float64.

    Args:
        expression: in symbols and elements.
        indices: the axes of the result.
        values: what each symbol holds: an array with one axis for each index of its elements.

    Raises:
        KeyError: if a symbol has no values.
        TooLargeError: if it would take more than 128 MB.
    """
    with np.errstate(all="ignore"):
        array = _Evaluation(values).of(expression)
    sizes = [index.size for index in indices]
    return np.broadcast_to(_aligned(array, tuple(indices)), sizes)


def _aligned(given: _Labelled, labels: tuple[Any, ...]) -> Array:
    """Return the array with an axis for each of these labels, of length 1 where it has none."""
    order = [given.labels.index(label) for label in labels if label in given.labels]
    shape = [label.size if label in given.labels else 1 for label in labels]
    return given.array.transpose(order).reshape(shape)


class _Evaluation:
    def __init__(self, values: Holder) -> None:
        self._values = values
        self._known: dict[Any, _Labelled] = {}

    def of(self, expression: Any) -> _Labelled:
        """Return what an expression is, each different part of it computed once."""
        known = self._known.get(expression)
        if known is None:
            known = self._known[expression] = self._new(expression)
        return known

    def _new(self, expression: Any) -> _Labelled:
        if isinstance(expression, Index):
            return _Labelled(np.arange(expression.size), (expression,))
        if expression.is_Symbol or expression.is_Number or expression.is_NumberSymbol:
            return _Labelled(self._values[expression] if expression.is_Symbol else np.array(float(expression)), ())
        ways = ((At, self._element), (Total, self._total), (Largest, self._largest), ((Product, Others), self._product))
        way = next((function for kind, function in ways if isinstance(expression, kind)), None)
        if way is not None:
            return way(expression)
        return self._together(_FUNCTIONS[expression.func.__name__], [self.of(each) for each in expression.args])

    def _together(self, function: Callable[..., Array], parts: list[_Labelled]) -> _Labelled:
        labels = tuple(dict.fromkeys(label for part in parts for label in part.labels))
        if math.prod(label.size for label in labels) > LARGEST:
            raise TooLargeError(str(labels))
        return _Labelled(function(*(_aligned(part, labels) for part in parts)), labels)

    def _element(self, expression: Any) -> _Labelled:
        held = self._values[expression.args[0]]
        indices = expression.args[1:]
        whole = [index.size if isinstance(index, Index) else 0 for index in indices] == list(held.shape)
        if whole and len(set(indices)) == held.ndim:
            return _Labelled(held, indices)

        def pick(*indices: Array) -> Array:
            # What is outside is multiplied by a condition that is 0 there.
            near = (np.clip(i.astype(int), 0, size - 1) for i, size in zip(indices, held.shape, strict=True))
            return np.asarray(held[tuple(near)])

        return self._together(pick, [self.of(index) for index in indices])

    def _total(self, expression: Any) -> _Labelled:
        """Return a sum, of nested ones all at once: numpy knows how to order a contraction."""
        bound = []
        while isinstance(expression, Total):
            bound.append(expression.args[1])
            expression = expression.args[0]
        parts = [self.of(factor) for factor in sp.Mul.make_args(expression)]
        labels = list(dict.fromkeys(label for part in parts for label in part.labels))
        letters = {label: chr(97 + number) for number, label in enumerate(labels)}
        kept = [label for label in labels if label not in bound]
        spec = ",".join("".join(letters[label] for label in part.labels) for part in parts)
        arrays = [part.array.astype(float) for part in parts]
        result = np.einsum(f"{spec}->{''.join(letters[label] for label in kept)}", *arrays, optimize=True)
        absent = math.prod(index.size for index in bound if index not in labels)
        return _Labelled(np.asarray(result) * absent, tuple(kept))

    def _product(self, expression: Any) -> _Labelled:
        body, bound = self.of(expression.args[0]), expression.args[1]
        labels = (*(label for label in body.labels if label != bound), bound)
        array = _aligned(body, labels)
        if isinstance(expression, Product):
            return _Labelled(array.prod(-1), labels[:-1])
        others = np.stack([np.delete(array, at, -1).prod(-1) for at in range(bound.size)], -1)
        return _Evaluation({_OTHERS: others}).of(At(_OTHERS, *labels[:-1], expression.args[2]))

    def _largest(self, expression: Any) -> _Labelled:
        body, bound = self.of(expression.args[1]), expression.bound
        labels = (*(label for label in body.labels if label not in bound), *bound)
        if math.prod(label.size for label in labels) > LARGEST:
            raise TooLargeError(str(labels))
        whole = np.broadcast_to(_aligned(body, labels), [label.size for label in labels])
        flat = whole.reshape(*whole.shape[: whole.ndim - len(bound)], -1)
        equal = flat == flat.max(-1, keepdims=True)
        first = np.arange(flat.shape[-1]) == flat.argmax(-1)[..., None]
        weights = equal / equal.sum(-1, keepdims=True) if expression.args[0] == 1 else first
        at = At(_OTHERS, *labels[: len(labels) - len(bound)], *expression.at)
        return _Evaluation({_OTHERS: weights.reshape(whole.shape).astype(float)}).of(at)


_OTHERS = sp.Dummy("others")


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(x))


def _sum(*terms: Array) -> Array:
    return np.asarray(sum(terms[1:], terms[0]))


def _multiplied(*factors: Array) -> Array:
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": _sum,
    "Mul": _multiplied,
    "Pow": lambda a, b: np.power(np.asarray(a, float), b),
    "Equal": lambda a, b: np.where(a == b, 1.0, 0.0),
    "AtLeast": lambda a, b: np.where(a >= b, 1.0, 0.0),
    "Abs": np.abs,
    "sign": np.sign,
    "erf": _erf,
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "above": lambda x, y: np.where(x >= y, 1.0, 0.0),
    "detach": lambda x: x,
    "Within": lambda x, condition: np.where(condition > 0, x, -np.inf),
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "cot": lambda x: 1 / np.tan(x),
    "sec": lambda x: 1 / np.cos(x),
    "csc": lambda x: 1 / np.sin(x),
    "coth": lambda x: 1 / np.tanh(x),
    "sech": lambda x: 1 / np.cosh(x),
    "csch": lambda x: 1 / np.sinh(x),
    **{name: getattr(np, name) for name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
}
