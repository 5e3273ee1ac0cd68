"""Attention as sums over indices: scaled dot products, and the module of several heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.differentiate import NoFormulaError
from gradtrace.explain.indexing import take
from gradtrace.explain.indices import AtLeast
from gradtrace.explain.shapes import SHAPED, Value, places, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ATTENTION"]


def _attention(q: Value, k: Value, v: Value, *given: Any, **named: Any) -> Value:
    names = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    arguments = dict(zip(names, given, strict=False)) | named
    if arguments.get("dropout_p") or arguments.get("enable_gqa"):
        raise NoFormulaError("with dropout or grouped heads")
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
        raise NoFormulaError("with dropout, masked keys, or keys of its own")
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


ATTENTION: dict[str, Callable[..., Value]] = {
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
}
