"""Layer and batch normalisation as sums over indices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.shapes import Value, joined, places, substituted, summed

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NORMALISATION"]


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


NORMALISATION: dict[str, Callable[..., Value]] = {"layer_norm": _layer_norm, "batch_norm": _batch_norm}
