"""Kinds of tensors, and what was measured of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from gradtrace.recording.stats.routes import Route

__all__ = ["Measured", "TensorKind", "placed"]


class TensorKind(NamedTuple):
    """What a tensor is, apart from its elements; of one that processes share, ``whole`` is the shape of all of it."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    route: Route
    whole: tuple[int, ...] | None = None
    placement: str = ""


def placed(kind: TensorKind, stats: TensorStats) -> TensorStats:
    """Return the statistics of the part that is here as those of a tensor that processes share."""
    if kind.whole is None:
        return stats
    if 0 in kind.shape and 0 not in kind.whole:  # nothing of it is here, and nothing known of it
        return TensorStats(kind.whole, kind.dtype, kind.device, zeros=None, note=kind.placement)
    values = stats.values if kind.whole == kind.shape else None
    note = stats.note if stats.zeros is None and stats.note else kind.placement  # why there are no numbers comes first
    return replace(stats, shape=kind.whole, values=values, note=note)


# What was measured of one tensor: its kind, and its values, sums, something pending, or TensorStats.
# A plain list: there are several for each op of the script, and what is found takes the place of what it is from.
Measured = list[Any]
