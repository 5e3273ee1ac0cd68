"""Pooling and the largest or smallest elements, as sums over indices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import sympy as sp

from gradtrace.explain.differentiate import NoFormulaError
from gradtrace.explain.indices import Index, Within, axis, inside, largest
from gradtrace.explain.layers.window import each, over, window
from gradtrace.explain.shapes import Value, joined, places, reduced, substituted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["POOLING"]


class _Windows(NamedTuple):
    """Elements of a tensor in a window: their value, the condition under which there are any, and their indices."""

    body: Any
    known: Any
    indices: list[Any]
    shape: tuple[int, ...]
    elements: int


def _windows(x: Value, sizes: Sequence[int], stride: Any, padding: Any = 0, dilation: Any = 1) -> _Windows:
    count = len(sizes)
    steps, edges, gaps = (each(given, count) for given in (stride or list(sizes), padding, dilation))
    if len(x.shape) <= count:
        raise TypeError("no channels")
    free = len(x.shape) - count
    moves = list(zip(x.shape[free:], sizes, steps, edges, gaps, strict=True))
    shape = (*x.shape[:free], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in moves))
    here, inner = places(shape), window(sizes)
    at = [o * s + k * d - p for o, k, (_, _, s, p, d) in zip(here[free:], inner, moves, strict=True)]
    known = sp.Mul(*(inside(place, n) for place, (n, _, _, p, _) in zip(at, moves, strict=True) if p))
    bound = [index for index in inner if isinstance(index, Index)]
    return _Windows(substituted(x, [*here[:free], *at]), known, bound, shape, math.prod(sizes))


def _max_pool(count: int) -> Callable[..., Value]:
    def pool(
        x: Value, size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any, **__: Any
    ) -> Value:  # ceil_mode changes the shape, or nothing
        found = _windows(x, each(size, count), stride, padding, dilation)
        return Value(_highest(found.body, found.indices, known=found.known), found.shape)

    return pool


def _avg_pool(count: int) -> Callable[..., Value]:
    def pool(x: Value, size: Any, stride: Any = None, padding: Any = 0, *given: Any, **named: Any) -> Value:
        names = ("ceil_mode", "count_include_pad", "divisor_override")
        arguments = dict(zip(names, given, strict=False)) | named
        if arguments.get("ceil_mode") or arguments.get("divisor_override"):
            raise NoFormulaError("with ceil_mode or divisor_override")
        found = _windows(x, each(size, count), stride, padding)
        return Value(over(found.body * found.known, found.indices[::-1]) / _counted(found, arguments), found.shape)

    return pool


def _counted(found: _Windows, arguments: dict[str, Any]) -> Any:
    """Return the number of elements of an average: with the zeros around, or without."""
    if found.known == 1 or arguments.get("count_include_pad", True):
        return found.elements
    return over(found.known, found.indices[::-1])


def _adaptive_avg_pool(count: int) -> Callable[..., Value]:
    def pool(x: Value, size: Any) -> Value:
        wanted = each(size, count)
        whole = x.shape[-count:]
        if any(n % out for n, out in zip(whole, wanted, strict=True)):
            raise NoFormulaError("with windows of different sizes")
        found = _windows(x, [n // out for n, out in zip(whole, wanted, strict=True)], None)
        return Value(over(found.body, found.indices[::-1]) / found.elements, found.shape)

    return pool


def _highest(expression: Any, indices: Sequence[Any], *, shared: bool = False, known: Any = 1) -> Any:
    """Return the largest value over some indices, as a sum in which all others are multiplied by 0."""
    if not indices:
        return expression
    compared = expression if known == 1 else Within(expression, known)
    return over(expression * largest(compared, indices, shared=shared), indices[::-1])


def _most(sign: int, *, shared: bool) -> Callable[..., Value]:
    """Return max or min: of all elements or over ``dim``; ``shared`` tells whether equals share the gradient."""

    def most(value: Value, dim: Any = None, keepdim: bool = False) -> Value:  # noqa: FBT001, FBT002
        if isinstance(dim, Value):
            return joined(lambda a, b: (a + b + sign * sp.Abs(a - b)) / 2, [value, dim])
        count = len(value.shape)
        dims = range(count) if dim is None else [each % count for each in (dim if isinstance(dim, list) else [dim])]
        indices = [axis(count - at, value.shape[at]) for at in dims if value.shape[at] != 1]
        found = sign * _highest(sign * value.expression, indices, shared=shared or dim is None)
        return reduced(value, found, None if dim is None else list(dims), keepdim=keepdim)

    return most


POOLING: dict[str, Callable[..., Value]] = {
    **{f"max_pool{count}d": _max_pool(count) for count in (1, 2, 3)},
    **{f"avg_pool{count}d": _avg_pool(count) for count in (1, 2, 3)},
    **{f"adaptive_avg_pool{count}d": _adaptive_avg_pool(count) for count in (1, 2, 3)},
    "max": _most(1, shared=False),
    "min": _most(-1, shared=False),
    "amax": _most(1, shared=True),
    "amin": _most(-1, shared=True),
    "maximum": _most(1, shared=True),
    "minimum": _most(-1, shared=True),
}
