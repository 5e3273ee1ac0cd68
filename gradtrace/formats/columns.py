"""Newspaper columns for a ribbon: cut where the fewest edges cross, the pieces side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.fold.ranks import ranks_of

if TYPE_CHECKING:
    from gradtrace.fold import Folded

__all__ = ["columns_of", "wanted"]

BOX_HEIGHT, BOX_WIDTH = 130, 260  # points that a box and the way to the next one take, about
TALLEST = 4.0  # times its width that a picture may be high before it is cut
GOAL = 1.3  # height of a page by its width
MOST_CROSSED = 8  # lines on average that a cut may cross; numbers are no way to read more
LEAST_RANKS = 4  # of a column


def wanted(folded: Folded, asked: str, *, page: bool = False) -> int:
    """Return the number of columns: the one asked for, or one that makes a page of what is too tall."""
    if asked != "auto":
        return int(asked)
    ranks = 1 + max(ranks_of(folded).values(), default=0)
    abreast = max(1.0, len(folded.boxes) / ranks)
    ratio = ranks * BOX_HEIGHT / (abreast * BOX_WIDTH)
    if ratio <= (GOAL if page else TALLEST):
        return 1
    count = max(1, min(round((ratio / GOAL) ** 0.5), ranks // LEAST_RANKS))
    column = columns_of(folded, count)
    crossed = sum(column[link.source] != column[link.target] for link in folded.links)
    return count if crossed <= MOST_CROSSED * (count - 1) else 1


def columns_of(folded: Folded, count: int) -> dict[str, int]:
    """Return the column of each box, from 0; no edge leads back to an earlier one."""
    ranks = ranks_of(folded)
    last = max(ranks.values(), default=0)
    cuts = _cuts(_crossings(folded, ranks, last), last + 1, count)
    return {box_id: sum(rank >= cut for cut in cuts) for box_id, rank in ranks.items()}


def _cuts(crossings: list[int], ranks: int, count: int) -> list[int]:
    """Return the ranks at which columns begin, each near its even share, where the fewest edges cross."""
    room = max(1, ranks // (6 * count))
    found = []
    for i in range(1, count):
        ideal = i * ranks // count
        near = range(max(1, ideal - room), min(ranks - 1, ideal + room) + 1)
        found.append(min(near, key=lambda rank: (crossings[rank], abs(rank - ideal)), default=ideal))
    return found


def _crossings(folded: Folded, ranks: dict[str, int], last: int) -> list[int]:
    """Return for each rank the number of lines that a cut above it would cross."""
    change = [0] * (last + 2)
    for link in folded.links:
        change[ranks[link.source] + 1] += 1
        change[ranks[link.target] + 1] -= 1
    total, found = 0, []
    for each in change:
        total += each
        found.append(total)
    return found
