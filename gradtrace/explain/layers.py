"""Layers of neural networks as sums over indices: convolution, pooling, normalisation, attention, embedding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.indexing import take
from gradtrace.explain.indices import AtLeast, Index, axis, inside, largest, total
from gradtrace.explain.shapes import SHAPED, Value, joined, places, reduced, substituted, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["LAYERS"]

_FREE = 90  # from here on axes that no tensor has, to sum over


def _each(given: Any, count: int) -> list[int]:
    """Return a size for each of the axes that a window moves along."""
    sizes = list(given) if isinstance(given, list) else [given] * count
    if len(sizes) != count or not all(type(size) is int for size in sizes):
        raise TypeError("a size in words")
    return sizes


def _window(sizes: Sequence[int]) -> list[Any]:
    """Return an index for each axis of a window."""
    return [axis(_FREE + at, size) if size != 1 else sp.Integer(0) for at, size in enumerate(sizes)]


def _over(expression: Any, indices: Sequence[Any]) -> Any:
    for index in indices:
        expression = total(expression, index) if isinstance(index, Index) else expression
    return expression


def _convolution(x: Value, weight: Value, bias: Value | None = None, *given: Any, **named: Any) -> Value:
    arguments = dict(zip(("stride", "padding", "dilation", "groups"), given, strict=False)) | named
    if arguments.pop("groups", 1) != 1 or len(x.shape) != len(weight.shape):
        raise TypeError("groups, or no batch")
    count = len(weight.shape) - 2
    stride, padding, dilation = (
        _each(arguments.pop(name, default), count) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    moves = list(zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True))
    shape = (x.shape[0], weight.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in moves))
    here = places(shape)
    channel, *window = _window((x.shape[1], *weight.shape[2:]))
    at = [o * s + k * d - p for o, k, (_, _, s, p, d) in zip(here[2:], window, moves, strict=True)]
    known = [inside(each, n) for each, (n, _, _, p, _) in zip(at, moves, strict=True) if p]
    taken = substituted(x, [here[0], channel, *at]) * substituted(weight, [here[1], channel, *window])
    result = _over(taken * sp.Mul(*known), [*window[::-1], channel])
    return Value(result if bias is None else result + substituted(bias, [here[1]]), shape)


def _pool(count: int, how: Callable[[Any, Sequence[Any]], Any]) -> Callable[..., Value]:
    def pool(x: Value, size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **_: Any) -> Value:
        sizes = _each(size, count)
        steps, edges, gaps = (_each(given, count) for given in (sizes if stride is None else stride, padding, dilation))
        if any(edges) or len(x.shape) <= count:
            raise TypeError("padding, or no batch")
        free = len(x.shape) - count
        long = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[free:], sizes, steps, gaps, strict=True)]
        here = places((*x.shape[:free], *long))
        window = _window(sizes)
        at = [o * s + k * d for o, k, s, d in zip(here[free:], window, steps, gaps, strict=True)]
        found = how(substituted(x, [*here[:free], *at]), [each for each in window if isinstance(each, Index)])
        return Value(found, (*x.shape[:free], *long))

    return pool


def _highest(expression: Any, indices: Sequence[Any], *, shared: bool = False) -> Any:
    """Return the largest value over some indices, as a sum in which all others are multiplied by 0."""
    return _over(expression * largest(expression, indices, shared=shared), indices[::-1]) if indices else expression


def _average(expression: Any, indices: Sequence[Any]) -> Any:
    return _over(expression, indices[::-1]) / math.prod(index.size for index in indices)


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


def _layer_norm(x: Value, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Value:
    normal = _normal(x, list(range(len(x.shape) - len(shape), len(x.shape))), eps)
    found = joined(lambda a, b: a * b, [normal, weight]) if weight is not None else normal
    return joined(lambda a, b: a + b, [found, bias]) if bias is not None else found


def _normal(x: Value, dims: list[int], eps: float) -> Value:
    count = math.prod(x.shape[at] for at in dims)
    away = x.expression - summed(x, dims) / count
    variance = summed(Value(away**2, x.shape), dims) / count
    return Value(away / sp.sqrt(variance + sp.Float(eps)), x.shape)


def _batch_norm(x: Value, mean: Any, var: Any, *given: Any, **named: Any) -> Value:
    arguments = dict(zip(("weight", "bias", "training", "momentum", "eps"), given, strict=False)) | named
    eps = arguments.get("eps", 1e-5)

    def channels(value: Value) -> Any:
        return substituted(value, [places(x.shape)[1]])

    if arguments.get("training"):
        normal = _normal(x, [0, *range(2, len(x.shape))], eps).expression
    else:
        normal = (x.expression - channels(mean)) / sp.sqrt(channels(var) + sp.Float(eps))
    weight, bias = arguments.get("weight"), arguments.get("bias")
    scaled = normal if weight is None else normal * channels(weight)
    return Value(scaled if bias is None else scaled + channels(bias), x.shape)


def _attention(q: Value, k: Value, v: Value, *given: Any, **named: Any) -> Value:
    names = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    arguments = dict(zip(names, given, strict=False)) | named
    if arguments.get("dropout_p") or arguments.get("enable_gqa"):
        raise TypeError("random, or shared heads")
    mask, scale = arguments.get("attn_mask"), arguments.get("scale")
    scores = _one(SHAPED["matmul"](q, SHAPED["transpose"](k, -1, -2)))
    row, column = (places(scores.shape)[at] for at in (-2, -1))
    kept = AtLeast(row, column) if arguments.get("is_causal") else sp.Integer(1)
    factor = 1 / sp.sqrt(q.shape[-1]) if scale is None else sp.Float(scale)
    raised = sp.exp(scores.expression * factor + (mask.expression if mask is not None else 0)) * kept
    weights = raised / summed(Value(raised, scores.shape), [len(scores.shape) - 1])
    return _one(SHAPED["matmul"](Value(weights, scores.shape), v))


_HEADS = (
    *("heads", "in_weight", "in_bias", "bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_weight", "out_bias"),
    *("training", "key_padding_mask", "need_weights", "attn_mask"),
)
_UNUSUAL = ("bias_k", "bias_v", "add_zero_attn", "dropout_p", "key_padding_mask", "use_separate_proj_weight")


def _multi_head(query: Value, key: Value, value: Value, size: int, *given: Any, **named: Any) -> Value:
    names = {"num_heads": "heads", "in_proj_weight": "in_weight", "in_proj_bias": "in_bias", "embed_dim_to_check": ""}
    names |= {"out_proj_weight": "out_weight", "out_proj_bias": "out_bias"}
    arguments = dict(zip(_HEADS, given, strict=False)) | {names.get(name, name): item for name, item in named.items()}
    if any(arguments.get(name) for name in _UNUSUAL) or len(query.shape) != 3:  # noqa: PLR2004 - steps, batch, numbers
        raise TypeError("other arguments than the plain ones")
    heads, weight, bias = arguments["heads"], arguments["in_weight"], arguments.get("in_bias")
    split = [
        _head(each, [None if whole is None else _part(whole, at, size) for whole in (weight, bias)], heads)
        for at, each in enumerate((query, key, value))
    ]
    attended = _attention(*split, attn_mask=arguments.get("attn_mask"), is_causal=False)
    together = _one(SHAPED["reshape"](_one(SHAPED["permute"](attended, 2, 0, 1, 3)), list(query.shape)))
    return _one(SHAPED["linear"](together, arguments["out_weight"], arguments.get("out_bias")))


def _part(whole: Value, at: int, size: int) -> Value:
    """Return the rows of query, key or value of what is stored in one tensor."""
    return take(whole, [slice(at * size, at * size + size)])


def _head(x: Value, projection: Sequence[Any], heads: int) -> Value:
    """Return a projection of steps, batch and numbers as batch, heads, steps and numbers of a head."""
    found = _one(SHAPED["linear"](x, *projection))
    steps, batch, size = found.shape
    return _one(SHAPED["permute"](_one(SHAPED["reshape"](found, [steps, batch, heads, size // heads])), 1, 2, 0, 3))


def _one(value: Any) -> Value:
    """Return what a function made that makes one tensor."""
    assert isinstance(value, Value)  # noqa: S101 - others return a list
    return value


def _embedding(indices: Value, weight: Value, *given: Any, **named: Any) -> Value:
    arguments = dict(zip(("padding_idx", "max_norm"), given, strict=False)) | named
    if arguments.get("padding_idx") is not None or arguments.get("max_norm") is not None:
        raise TypeError("rows that are changed, or have no gradient")
    return take(weight, [indices])


LAYERS: dict[str, Callable[..., Value]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **{f"max_pool{count}d": _pool(count, _highest) for count in (1, 2, 3)},
    **{f"avg_pool{count}d": _pool(count, _average) for count in (1, 2, 3)},
    "max": _most(1, shared=False),
    "min": _most(-1, shared=False),
    "amax": _most(1, shared=True),
    "amin": _most(-1, shared=True),
    "maximum": _most(1, shared=True),
    "minimum": _most(-1, shared=True),
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
    "embedding": _embedding,
}
