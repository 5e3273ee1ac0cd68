"""Embedding: rows of a matrix, taken by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.differentiate import NoFormulaError
from gradtrace.explain.indexing import take
from gradtrace.explain.indices import Equal
from gradtrace.explain.operations import detach
from gradtrace.explain.shapes import Value, places, substituted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EMBEDDING"]

_NAMES = ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")


def _embedding(indices: Value, weight: Value, *given: Any, **named: Any) -> Value:
    arguments = dict(zip(_NAMES, given, strict=False)) | named
    if arguments.get("max_norm") is not None:
        raise NoFormulaError("max_norm changes the rows")
    if arguments.get("scale_grad_by_freq"):
        raise NoFormulaError("scale_grad_by_freq divides the gradient of a row by how often it is used")
    rows, padding = take(weight, [indices]), arguments.get("padding_idx")
    if padding is None:
        return rows
    row = padding % weight.shape[0]
    unmoved = take(weight, [row]).expression  # its axis is the last one of the result, too
    is_padding = Equal(substituted(indices, places(rows.shape)[:-1]), sp.Integer(row))
    return Value(rows.expression * (1 - is_padding) + detach(unmoved) * is_padding, rows.shape)


EMBEDDING: dict[str, Callable[..., Value]] = {"embedding": _embedding}
