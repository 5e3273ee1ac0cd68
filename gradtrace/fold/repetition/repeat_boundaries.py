"""Boundaries of repeated segments: those that are alike node by node must also touch the rest of the graph alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradtrace.fold.repetition.repeat_labels import PROGRESSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradtrace.fold.line import Line

__all__ = ["alike"]

_Entry = tuple[tuple[int, int], ...]  # label of the source and output of the target, of each edge


def alike(line: Line, labels: list[int], start: int, width: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield the stretches of consecutive segments that are alike in full, as (start, width, count)."""
    segments = _Segments(line, labels, start, width, count)
    first, known = 0, segments.first()
    for at in range(1, count):
        mine = segments.entries(at)
        agree = segments.agree(known, mine, start=at == first + 1) and segments.joins(first, at)
        if agree:
            known = mine
            continue
        yield start + first * width, width, at - first
        first, known = at, mine
    yield start + first * width, width, count - first


class _Segments:
    """Segments of one run, with what they are compared by."""

    def __init__(self, line: Line, labels: list[int], start: int, width: int, count: int) -> None:
        self._line, self._labels = line, labels
        self._start, self._width, self._end = start, width, start + width * count
        self._slots: dict[int, tuple[str, ...]] = {}

    def first(self) -> list[_Entry]:
        return self.entries(0)

    def entries(self, segment: int) -> list[_Entry]:
        """Return for each place of a segment the edges that arrive from before the run, and by what, sorted."""
        begin, start, labels = self._start + segment * self._width, self._start, self._labels
        return [
            tuple(sorted([(labels[source], edge.target_index) for source, edge in arriving if source < start]))
            for arriving in self._line.inward[begin : begin + self._width]
        ]

    def agree(self, before: list[_Entry], mine: list[_Entry], *, start: bool) -> bool:
        """Tell whether two segments are entered alike; the first may have more where the others have their previous."""
        if not start:
            return before == mine
        return all(
            one == other or (self._linked(at) and Counter(other) <= Counter(one))
            for at, (one, other) in enumerate(zip(before, mine, strict=True))
        )

    def joins(self, first: int, segment: int) -> bool:
        """Tell whether a segment's leaves and counting attributes go on as those of the segments before."""
        one, two = self._leaves(segment - 1), self._leaves(segment)
        if not one and not two:
            return segment - first < 2 or self._counts_on(segment)  # noqa: PLR2004
        if not self._same_sharing(one, two) or not self._private(one, two):
            return False
        if segment - first < 2:  # noqa: PLR2004 - two segments can't disagree on how the second differs
            return True
        zero = self._leaves(segment - 2)
        kept = [a == b for a, b in zip(zero, one, strict=True)]
        return kept == [a == b for a, b in zip(one, two, strict=True)] and self._counts_on(segment)

    def _linked(self, at: int) -> bool:
        """Tell whether the second segment is entered here from the first."""
        place = self._start + self._width + at
        return any(self._start <= source < self._start + self._width for source, _ in self._line.inward[place])

    def _leaves(self, segment: int) -> tuple[str, ...]:
        leaves = self._slots.get(segment)
        if leaves is None:
            begin = self._start + segment * self._width
            to_leaves = self._line.to_leaves
            leaves = tuple([e.target for at in range(begin, begin + self._width) for e in to_leaves[at]])
            self._slots[segment] = leaves
            self._slots.pop(segment - 3, None)
        return leaves

    def _same_sharing(self, one: tuple[str, ...], two: tuple[str, ...]) -> bool:
        """Tell whether both use one leaf in two places where the other does."""
        return len(one) == len(two) and [one.index(leaf) for leaf in one] == [two.index(leaf) for leaf in two]

    def _private(self, one: tuple[str, ...], two: tuple[str, ...]) -> bool:
        """Tell whether leaves that differ are used as often in all, so that each is its segment's own or none is."""
        uses = self._line.graph.edges_into
        return all(a == b or len(uses[a]) == len(uses[b]) for a, b in zip(one, two, strict=True))

    def _counts_on(self, segment: int) -> bool:
        begin, width = self._start + segment * self._width, self._width
        nodes = self._line.nodes
        return all(
            _step(nodes[at].attributes, nodes[at - width].attributes)
            == _step(nodes[at - width].attributes, nodes[at - 2 * width].attributes)
            for at in range(begin, begin + width)
            if nodes[at].attributes
        )


def _step(later: Mapping[str, object], earlier: Mapping[str, object]) -> list[int]:
    steps = []
    for key in PROGRESSES:
        one, two = later.get(key), earlier.get(key)
        if isinstance(one, int) and isinstance(two, int):
            steps.append(one - two)
    return steps
