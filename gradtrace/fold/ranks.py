"""How far from the output each box stands."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.fold.boxes import Folded

__all__ = ["longest_ways", "ranks_of"]


def ranks_of(folded: Folded) -> dict[str, int]:
    """Return for each box the length of the longest way to it."""
    return longest_ways(folded, {})


def longest_ways(folded: Folded, before: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the length of the longest way to each box, where some things must also stand ``before`` others.

    What is no box stands between two and takes no rank of its own. What lies on a cycle stays at the rank
    that it was reached at.
    """
    boxes = {box.id for box in folded.boxes}
    onward: dict[str, list[str]] = {key: list(later) for key, later in before.items()}
    for link in folded.links:
        onward.setdefault(link.source, []).append(link.target)
    waits = dict.fromkeys([*(box.id for box in folded.boxes), *onward], 0)
    for targets in onward.values():
        for target in targets:
            waits[target] = waits.get(target, 0) + 1
    ranks = dict.fromkeys(waits, 0)
    ready = deque(key for key, count in waits.items() if not count)
    while ready:
        key = ready.popleft()
        for target in onward.get(key, ()):
            ranks[target] = max(ranks[target], ranks[key] + (key in boxes))
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    return {box.id: ranks[box.id] for box in folded.boxes}
