"""Layers of neural networks as sums over indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.layers.attention import ATTENTION
from gradtrace.explain.layers.convolution import CONVOLUTION
from gradtrace.explain.layers.embedding import EMBEDDING
from gradtrace.explain.layers.normalisation import NORMALISATION
from gradtrace.explain.layers.pooling import POOLING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.explain.shapes import Value

__all__ = ["LAYERS"]

LAYERS: dict[str, Callable[..., Value]] = {
    **CONVOLUTION,
    **POOLING,
    **NORMALISATION,
    **ATTENTION,
    **EMBEDDING,
}
