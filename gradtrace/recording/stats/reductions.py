"""Reductions of a tensor: known sums, or pending ones that are computed together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

__all__ = ["MAX_VALUES", "Pending", "Sums"]

MAX_VALUES = 16


class Sums(NamedTuple):
    """Reductions of a tensor: over its finite elements, ``repeats`` times each."""

    finite: int
    repeats: int
    low: float
    high: float
    total: float
    norm: float
    nonzero: int
    nan: int = 0
    inf: int = 0


class Pending:
    """Pending reduction: the tensor to compute it from, later the result."""

    __slots__ = ("found", "tensor")

    def __init__(self, tensor: torch.Tensor | None) -> None:
        self.tensor = tensor
        self.found: Any = None
