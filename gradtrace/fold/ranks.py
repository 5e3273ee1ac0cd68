"""How far from the output each box stands."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradtrace.fold.boxes import Folded

__all__ = ["ranks_of"]


def ranks_of(folded: Folded) -> dict[str, int]:
    """Return for each box the length of the longest way to it."""
    ranks = {box.id: 0 for box in folded.boxes}
    onward: dict[str, list[str]] = {box.id: [] for box in folded.boxes}
    waits = dict.fromkeys(ranks, 0)
    for link in folded.links:
        onward[link.source].append(link.target)
        waits[link.target] += 1
    ready = deque(box_id for box_id, count in waits.items() if not count)
    while ready:
        box_id = ready.popleft()
        for target in onward[box_id]:
            ranks[target] = max(ranks[target], ranks[box_id] + 1)
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    return ranks
