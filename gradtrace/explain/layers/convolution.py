"""Convolution as a sum over indices: with groups, strides, zeros around and gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sympy as sp

from gradtrace.explain.indexing import take
from gradtrace.explain.indices import axis, inside
from gradtrace.explain.layers.window import each, over, window
from gradtrace.explain.shapes import Value, places, substituted, unsqueezed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONVOLUTION"]

_DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_GROUP = 98  # an axis that no tensor has


class _Axis(NamedTuple):
    """An axis that the kernel moves along: sizes of input and kernel, steps, zeros before and after."""

    size: int
    kernel: int
    stride: int
    gap: int
    before: int
    after: int

    @property
    def out(self) -> int:
        return (self.size + self.before + self.after - self.gap * (self.kernel - 1) - 1) // self.stride + 1


def _padding(given: Any, kernel: list[int], gaps: list[int]) -> list[tuple[int, int]]:
    """Return the zeros before and after each axis."""
    if given == "same":
        whole = [gap * (size - 1) for size, gap in zip(kernel, gaps, strict=True)]
        return [(zeros // 2, zeros - zeros // 2) for zeros in whole]
    return [(zeros, zeros) for zeros in each(0 if given == "valid" else given, len(kernel))]


def _axes(x: Value, weight: Value, stride: Any, padding: Any, dilation: Any) -> list[_Axis]:
    kernel = list(weight.shape[2:])
    count = len(kernel)
    gaps = each(dilation, count)
    edges = _padding(padding, kernel, gaps)
    sizes = zip(x.shape[2:], kernel, each(stride, count), gaps, strict=True)
    return [_Axis(*four, *zeros) for four, zeros in zip(sizes, edges, strict=True)]


def _batched(function: Callable[..., Value]) -> Callable[..., Value]:
    """Let a convolution take an input without a batch, too."""

    def convolution(x: Value, weight: Value, *given: Any, **named: Any) -> Value:
        if len(x.shape) == len(weight.shape):
            return function(x, weight, *given, **named)
        return take(function(unsqueezed(x, 0), weight, *given, **named), [0])

    return convolution


def _grouped(here: Any, size: int, groups: int) -> tuple[Any, Any]:
    """Return the group of a channel, and the condition under which it is that group."""
    if groups in {1, size}:
        return (sp.Integer(0) if groups == 1 else here), sp.Integer(1)
    group = axis(_GROUP, groups)
    return group, inside(here - group * (size // groups), size // groups)


def _convolution(x: Value, weight: Value, bias: Value | None = None, *given: Any, **named: Any) -> Value:
    arguments = _DEFAULTS | dict(zip(_DEFAULTS, given, strict=False)) | named
    groups = arguments.pop("groups")
    moves = _axes(x, weight, **arguments)
    shape = (x.shape[0], weight.shape[0], *(move.out for move in moves))
    here = places(shape)
    channel, *kernel = window(weight.shape[1:])
    group, is_in_group = _grouped(here[1], weight.shape[0], groups)
    at = [o * move.stride + k * move.gap - move.before for o, k, move in zip(here[2:], kernel, moves, strict=True)]
    known = [inside(place, move.size) for place, move in zip(at, moves, strict=True) if move.before or move.after]
    taken = substituted(x, [here[0], group * weight.shape[1] + channel, *at])
    product = taken * substituted(weight, [here[1], channel, *kernel]) * sp.Mul(*known) * is_in_group
    result = over(product, [*kernel[::-1], channel])
    result = result if is_in_group == 1 else over(result, [group])
    return Value(result if bias is None else result + substituted(bias, [here[1]]), shape)


CONVOLUTION: dict[str, Callable[..., Value]] = dict.fromkeys(("conv1d", "conv2d", "conv3d"), _batched(_convolution))
