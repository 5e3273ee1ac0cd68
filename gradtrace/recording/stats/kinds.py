"""Kinds of tensors, and what was measured of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from gradtrace.recording.stats.routes import Route

__all__ = ["Measured", "TensorKind"]


class TensorKind(NamedTuple):
    """What a tensor is, apart from its elements."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    route: Route


# What was measured of one tensor: its kind, and its values, sums, something pending, or TensorStats.
# A plain list: there are several for each op of the script, and what is found takes the place of what it is from.
Measured = list[Any]
