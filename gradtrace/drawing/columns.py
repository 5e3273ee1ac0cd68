"""Newspaper columns for a ribbon: cut where the fewest edges cross, the pieces side by side."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.fold.module_frames import spaced_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.drawing.sizes import Size
    from gradtrace.fold import Folded

__all__ = ["columns_of", "even_columns"]

TALLEST = 2.5  # times its width that a picture may be high before it is cut
GOAL = 1.3  # height of a page by its width
MOST_CROSSED = 6  # lines on average that a cut may cross; numbers are no way to read more
MOST, LEAST_RANKS = 12, 4  # columns, and ranks of a column
GAP_ABOVE, GAP_BESIDE = 30.0, 15.0  # points, about, from card to card


class _Sheet(Struct, frozen=True):
    """Ranks of a picture that may be cut: of each its height, its width, and the lines that cross into it."""

    ranks: dict[str, int]
    heights: list[float]
    widths: list[float]
    crossings: list[int]

    def shape(self, cuts: Sequence[int]) -> float:
        """Return the height of the columns by their width."""
        bounds = [0, *cuts, len(self.heights)]
        pieces = [slice(a, b) for a, b in pairwise(bounds)]
        return max(sum(self.heights[p]) for p in pieces) / max(1.0, sum(max(self.widths[p], default=0) for p in pieces))

    def cuts(self, count: int) -> list[int]:
        """Return the ranks at which columns begin, each near its even share, where the fewest edges cross."""
        ends = list(accumulate(self.heights))
        room = max(1, len(ends) // (4 * count))
        cuts: list[int] = []
        for i in range(1, count):
            ideal = sum(end < ends[-1] * i / count for end in ends) + 1
            near = range(max(1, ideal - room), min(len(ends) - 1, ideal + room) + 1)
            cuts.append(min(near, key=lambda rank: (self.crossings[rank], abs(rank - ideal)), default=ideal))
        return cuts


def columns_of(folded: Folded, sizes: Mapping[str, Size], asked: str, *, page: bool = False) -> dict[str, int]:
    """Return the column of each box of these sizes, from 0; no edge leads back to an earlier one.

    There are as many as ``asked`` for, or with ``auto`` as many as make a page of what is too tall.
    """
    sheet = _sheet(folded, sizes)
    cuts = sheet.cuts(int(asked)) if asked != "auto" else _best(sheet, GOAL if page else TALLEST)
    return {box_id: sum(rank >= cut for cut in cuts) for box_id, rank in sheet.ranks.items()}


def even_columns(folded: Folded, sizes: Mapping[str, Size], count: int) -> dict[str, int]:
    """Return the column of each box in so many columns; nothing where too many lines would be cut for it."""
    sheet = _sheet(folded, sizes)
    if len(sheet.heights) < LEAST_RANKS * count:
        return {}
    cuts = sheet.cuts(count)
    if sum(sheet.crossings[cut] for cut in cuts) > MOST_CROSSED * len(cuts):
        return {}
    return {box_id: sum(rank >= cut for cut in cuts) for box_id, rank in sheet.ranks.items()}


def _best(sheet: _Sheet, tallest: float) -> list[int]:
    """Return the cuts that make a page of it, or none where it is low enough or too many lines would be cut."""
    if sheet.shape([]) <= tallest:
        return []
    tries = [sheet.cuts(count) for count in range(2, min(MOST, len(sheet.heights) // LEAST_RANKS) + 1)]
    fair = [cuts for cuts in tries if sum(sheet.crossings[cut] for cut in cuts) <= MOST_CROSSED * len(cuts)]
    return min(fair, key=lambda cuts: abs(sheet.shape(cuts) - GOAL), default=[])


def _sheet(folded: Folded, sizes: Mapping[str, Size]) -> _Sheet:
    ranks = spaced_ranks(folded)
    count = 1 + max(ranks.values(), default=0)
    heights, widths = [0.0] * count, [0.0] * count
    for box_id, rank in ranks.items():
        width, height = sizes[box_id]
        heights[rank] = max(heights[rank], height + GAP_ABOVE)
        widths[rank] += width + GAP_BESIDE
    return _Sheet(ranks, heights, widths, _crossings(folded, ranks, count - 1))


def _crossings(folded: Folded, ranks: dict[str, int], last: int) -> list[int]:
    """Return for each rank the number of lines that a cut above it would cross."""
    change = [0] * (last + 2)
    for link in folded.links:
        change[ranks[link.source] + 1] += 1
        change[ranks[link.target] + 1] -= 1
    return list(accumulate(change))
