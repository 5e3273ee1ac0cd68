"""Values of a pass's letters, and the numbers of its formulas beside those that the pass computed."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct

from gradtrace.explain.evaluate import TooLargeError, evaluate
from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.explain.symbolic import Algebra
    from gradtrace.model import BackwardPass, Node

    Array = np.ndarray[Any, Any]

__all__ = ["Number", "Values"]

MOST_VALUES = 16
_CANCELLED = 1e-3
_RELATIVE = {"float64": 1e-9, "float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}


class Number(Struct, frozen=True):
    """Number of a formula at the recorded values, and how far it is from what the pass computed.

    ``agrees`` is None where there was nothing to compare with; ``error`` is the largest difference of ``elements``.
    """

    stats: TensorStats
    agrees: bool | None = None
    error: float = 0.0
    elements: int = 0

    @property
    def value(self) -> Any:
        """The number, the nested elements where they are few, else None."""
        return self.stats.values


class Values:
    """A mapping from symbols to arrays, one axis for each index; a letter's are those of its definition."""

    def __init__(self, graph: BackwardPass, algebra: Algebra) -> None:
        self._algebra = algebra
        self._known: dict[Any, Array] = {}
        self._largest = max((_size(grad) for node in graph.nodes for grad in node.grads if grad), default=0.0)
        self._around = max((_size(value) for node in graph.nodes for value in node.values if value), default=0.0)
        self._held = {(each.node, each.output if each.node else each.key): each for each in graph.held}

    def learn(self, symbol: Any, definition: Any, indices: list[Any]) -> None:
        """Let a symbol have the values of an expression in these indices, as far as they are known by now."""
        with suppress(KeyError, TooLargeError):
            self._known[symbol] = np.array(evaluate(definition, indices, self))

    def number(self, expression: Any, indices: Sequence[Any], held: TensorStats | None) -> Number | None:
        """Return an expression's number beside that of a tensor of which statistics were recorded."""
        array = self._evaluated(expression, indices)
        other = None if held is None or held.values is None else _array(held.values)
        return None if array is None else _compared(array, other, held, self._around)

    def gradient(self, expression: Any, indices: Sequence[Any], of: tuple[Node, int]) -> Number | None:
        """Return an expression's number beside the gradient that arrived at an output of a node."""
        node, output = of
        array = self._evaluated(expression, indices)
        stats = node.grads[output] if output < len(node.grads) else None
        if array is None or stats is None:
            return None if array is None else _compared(array, None, None, 0.0)
        held = self._held.get((node.id, output))
        other = np.frombuffer(held.grad, f"<{held.dtype}") if held is not None and held.grad else None
        if other is None and stats.values is not None:
            other = _array(stats.values)
        return _compared(array, other, stats, self._largest)

    def __getitem__(self, symbol: Any) -> Array:
        """Return what a symbol held; raises KeyError if that is not known."""
        if symbol not in self._known:
            self._known[symbol] = self._found(symbol)
        return self._known[symbol]

    def keys(self) -> Iterator[Any]:
        """Return the symbols that are known already."""
        return iter(self._known)

    def _found(self, symbol: Any) -> Array:
        held = self._held.get(self._algebra.held.get(symbol, ("", 0)))
        stats = self._algebra.stats.get(symbol)
        if held is not None and held.value and stats is not None:
            elements = np.frombuffer(held.value, f"<{held.dtype}").astype(float)
            return elements.reshape([size for size in stats.shape if size != 1])
        if stats is None or stats.values is None or stats.nan or stats.inf:
            raise KeyError(symbol)
        return _array(stats.values).reshape([size for size in stats.shape if size != 1])

    def _evaluated(self, expression: Any, indices: Sequence[Any]) -> Array | None:
        try:
            array = evaluate(expression, indices, self)
        except (KeyError, TooLargeError):
            return None
        return array if np.isfinite(array).all() else None


def _array(values: Any) -> Array:
    return np.array(values, dtype=float)


def _size(stats: TensorStats) -> float:
    return max(abs(stats.min or 0.0), abs(stats.max or 0.0))


def _compared(array: Array, other: Array | None, like: TensorStats | None, around: float) -> Number:
    """Return the number of a formula, beside another one of a tensor that is like it but for rounding.

    Where all cancels out, rounding is that of the numbers ``around``.
    """
    if like is not None and math.prod(like.shape) == array.size:
        array = array.reshape(like.shape)
    values = array.tolist() if array.size <= MOST_VALUES else None
    stats = TensorStats(array.shape, "float64", norm=float(np.linalg.norm(array.reshape(-1))), values=values)
    if other is None or like is None or other.size != array.size:
        return Number(stats)
    error = float(np.abs(array.reshape(-1) - other.reshape(-1)).max(initial=0.0))
    if not np.isfinite(error):
        return Number(stats)
    close = _RELATIVE.get(like.dtype, 1e-3)
    close *= max(float(np.abs(array).max(initial=0.0)), around * _CANCELLED, 1e-30)
    return Number(stats, error <= close, error, array.size)
