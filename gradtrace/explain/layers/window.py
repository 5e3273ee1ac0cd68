"""Windows that move along the last axes of a tensor: their sizes, and their indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.indices import Index, axis, total

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["each", "over", "window"]

_FREE = 90  # from here on axes that no tensor has, to sum over


def each(given: Any, count: int) -> list[int]:
    """Return a size for each of the axes that a window moves along."""
    sizes = list(given) if isinstance(given, list) else [given]
    sizes = sizes * count if len(sizes) == 1 else sizes
    if len(sizes) != count or not all(type(size) is int for size in sizes):
        raise TypeError("a size in words")
    return sizes


def window(sizes: Sequence[int]) -> list[Any]:
    """Return an index for each axis of a window."""
    return [axis(_FREE + at, size) if size != 1 else sp.Integer(0) for at, size in enumerate(sizes)]


def over(expression: Any, indices: Sequence[Any]) -> Any:
    """Return the sum over those of these that are indices."""
    for index in indices:
        expression = total(expression, index) if isinstance(index, Index) else expression
    return expression
