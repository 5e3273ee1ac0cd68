"""Operations that take elements out of tensors or join tensors, on expressions per element."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.indices import AtLeast, axis
from gradtrace.explain.shapes import Value, broadcast, dimension, places, substituted, unsqueezed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INDEXED", "take"]


def take(value: Value, given: Any) -> Value:
    """Return ``x[given]``: numbers, slices, None, an Ellipsis, and tensors of whole numbers side by side."""
    items = list(given) if isinstance(given, list) else [given]
    known = sum(item is not None and item is not Ellipsis for item in items)
    if sum(item is Ellipsis for item in items) == 0:
        items.append(Ellipsis)
    at = next(number for number, item in enumerate(items) if item is Ellipsis)
    items[at : at + 1] = [slice(None)] * (len(value.shape) - known)
    return _taken(value, items)


def _taken(value: Value, items: list[Any]) -> Value:
    places = [number for number, item in enumerate(items) if isinstance(item, Value)]
    if places and places != list(range(places[0], places[-1] + 1)):
        raise TypeError("tensors of indices that stand apart")
    common = broadcast(*(items[place].shape for place in places))
    sizes = iter(value.shape)
    slices: list[tuple[Any, Any]] = []  # what each axis of the result is made of, and its size
    sources: list[Any] = []  # for each axis of the tensor: a number, or the axis of the result
    for number, item in enumerate(items):
        if item is None:
            slices.append((None, 1))
        elif isinstance(item, Value):
            if number == places[0]:
                slices += [(None, size) for size in common]
                start = len(slices) - len(common)
            next(sizes)
            sources.append((item, start))
        else:
            sources.append(_along(item, next(sizes), len(slices)))
            slices += [(None, sources[-1][2])] if isinstance(item, slice) else []
    shape = tuple(size for _, size in slices)
    return Value(substituted(value, [_source(each, shape, len(common)) for each in sources]), shape)


def _along(item: Any, size: int, at: int) -> Any:
    if isinstance(item, slice):
        start, stop, stride = item.indices(size)
        return (start, stride), at, len(range(start, stop, stride))
    if type(item) is not int or not -size <= item < size:
        raise TypeError("no such index")
    return item % size


def _source(source: Any, shape: tuple[int, ...], count: int) -> Any:
    """Return the index of an axis of the tensor, in those of the result."""
    if isinstance(source, int):
        return sp.Integer(source)
    if isinstance(source[0], Value):
        value, at = source
        below = len(shape) - at - count  # axes of the result after those of the tensor of indices
        moved = {axis(n, s): axis(n + below, s) for n, s in enumerate(value.shape[::-1], 1) if s != 1}
        return value.expression.xreplace(moved)
    (start, stride), at, _ = source
    return start + stride * places(shape)[at]


def _select(value: Value, dim: int, index: int) -> Value:
    return take(value, [slice(None)] * dimension(dim, len(value.shape)) + [index])


def _narrow(value: Value, dim: int, start: int, length: int) -> Value:
    return take(value, [slice(None)] * dimension(dim, len(value.shape)) + [slice(start, start + length)])


def _unbind(value: Value, dim: int = 0) -> list[Value]:
    return [_select(value, dim, at) for at in range(value.shape[dimension(dim, len(value.shape))])]


def _split(value: Value, split_size: Any, dim: int = 0) -> list[Value]:
    size = value.shape[dimension(dim, len(value.shape))]
    lengths = split_size if isinstance(split_size, list) else [split_size] * (size // split_size)
    lengths = [*lengths, size - sum(lengths)] if sum(lengths) < size else lengths
    starts = [sum(lengths[:at]) for at in range(len(lengths))]
    return [_narrow(value, dim, start, length) for start, length in zip(starts, lengths, strict=True)]


def _chunk(value: Value, chunks: int, dim: int = 0) -> list[Value]:
    return _split(value, -(-value.shape[dimension(dim, len(value.shape))] // chunks), dim)


def _cat(values: list[Value], dim: int = 0) -> Value:
    at = dimension(dim, len(values[0].shape))
    sizes = [value.shape[at] for value in values]
    shape = (*values[0].shape[:at], sum(sizes), *values[0].shape[at + 1 :])
    here = places(shape)
    terms, start = [], 0
    for value, size in zip(values, sizes, strict=True):
        own = substituted(value, [*here[:at], here[at] - start, *here[at + 1 :]])
        terms.append(own * AtLeast(here[at], sp.Integer(start)) * AtLeast(sp.Integer(start + size - 1), here[at]))
        start += size
    return Value(sp.Add(*terms), shape)


def _stack(values: list[Value], dim: int = 0) -> Value:
    return _cat([unsqueezed(value, dimension(dim, len(value.shape) + 1)) for value in values], dim)


INDEXED: dict[str, Callable[..., Value | list[Value]]] = {
    "getitem": take,
    "select": _select,
    "narrow": _narrow,
    "unbind": _unbind,
    "split": _split,
    "chunk": _chunk,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
}
