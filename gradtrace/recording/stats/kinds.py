"""Kinds of tensors, and the measurements of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from gradtrace.recording.stats.routes import Route

__all__ = ["Measured", "TensorKind", "placed"]


class TensorKind(NamedTuple):
    """Properties of a tensor apart from its elements; ``whole`` is the global shape of a distributed one."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    route: Route
    whole: tuple[int, ...] | None = None
    placement: str = ""


def placed(kind: TensorKind, stats: TensorStats) -> TensorStats:
    """Return the statistics of the local part, marked as part of a distributed tensor."""
    if kind.whole is None:
        return stats
    if 0 in kind.shape and 0 not in kind.whole:  # the local part is empty, the tensor is not
        return TensorStats(kind.whole, kind.dtype, kind.device, zeros=None, note=kind.placement)
    values = stats.values if kind.whole == kind.shape else None
    # A reason for missing numbers has priority.
    note = stats.note if stats.zeros is None and stats.note else kind.placement
    return replace(stats, shape=kind.whole, values=values, note=note)


# Measurement of one tensor: its kind, then its values, sums, a pending reduction, or TensorStats.
# A plain list, because there are several for each op; results replace what they are computed from, in place.
Measured = list[Any]
