"""Ranks of boxes: the length of the longest way from the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.graph import longest_ways

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.fold.boxes import Folded

__all__ = ["ranks_of"]


def ranks_of(folded: Folded, before: Mapping[str, Sequence[str]] | None = None) -> dict[str, int]:
    """Return the length of the longest way to each box, where some things must also stand ``before`` others.

    What is no box stands between two and takes no rank of its own.
    """
    onward: dict[str, list[str]] = {box.id: [] for box in folded.boxes}
    for key, later in (before or {}).items():
        onward.setdefault(key, []).extend(later)
        onward.update({target: [] for target in later if target not in onward})
    for link in folded.links:
        onward[link.source].append(link.target)
    ranks = longest_ways(onward, folded.by_id)
    return {box.id: ranks[box.id] for box in folded.boxes}
