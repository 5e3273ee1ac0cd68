"""Repeated segments of the line: the steps of an RNN, the blocks of a transformer.

Two segments repeat each other when node by node they are alike, are wired alike inside and to the next
segment, and touch the rest of the graph alike. What differs in anything is never folded with the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.fold.repetition.repeat_boundaries import alike
from gradtrace.fold.repetition.repeat_labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.fold.line import Line

__all__ = ["Run", "runs_of"]

LONGEST_GRAM = 4096  # nodes; periods up to about half of it are found
FEWEST = 3  # times that a single node must repeat; a longer segment twice


class Run(Struct, frozen=True):
    """``count`` segments of ``width`` places each, from ``start``."""

    start: int
    width: int
    count: int

    @property
    def end(self) -> int:
        """The place after the last."""
        return self.start + self.width * self.count

    @property
    def saved(self) -> int:
        """The number of boxes that it saves."""
        return self.width * self.count - 1


class _Stretch(Struct, frozen=True):
    """Places from ``start`` to ``end`` of which each matches the one a ``period`` later."""

    start: int
    end: int
    period: int

    def run(self) -> Run:
        """Return the whole segments in it."""
        return Run(self.start, self.period, (self.end - self.start) // self.period)


def runs_of(line: Line, opened: frozenset[int] = frozenset()) -> list[Run]:
    """Return runs that do not overlap, those that save most first."""
    labels = labels_of(line, opened)
    runs: list[Run] = []
    taken = bytearray(len(line.nodes))
    for stretch in sorted(_stretches(line, labels), key=lambda s: (-s.run().saved, s.period, s.start)):
        for free in _untaken(stretch, taken):
            for exact in _exact(line, labels, _aligned(line, free)):
                if _worth(exact):
                    runs.append(exact)
                    taken[exact.start : exact.end] = b"\1" * (exact.end - exact.start)
    return sorted(runs, key=lambda run: (-run.saved, run.start))


def _exact(line: Line, labels: list[int], run: Run) -> Iterator[Run]:
    yield from (Run(*stretch) for stretch in alike(line, labels, run.start, run.width, run.count))


def _worth(run: Run) -> bool:
    return run.count >= FEWEST or (run.count >= 2 and run.width > 1)  # noqa: PLR2004


def _untaken(stretch: _Stretch, taken: bytearray) -> Iterator[_Stretch]:
    """Yield what is left of a stretch between the runs that were chosen before."""
    start = stretch.start
    while 0 <= start < stretch.end:
        if taken[start]:
            start = taken.find(0, start)
            continue
        end = taken.find(1, start, stretch.end)
        end = stretch.end if end < 0 else end
        free = replace(stretch, start=start, end=end)
        if _worth(free.run()):
            yield free
        start = end


def _stretches(line: Line, labels: list[int]) -> list[_Stretch]:
    """Return all stretches of at least two segments, as far as they reach."""
    stretches: dict[_Stretch, None] = {}
    for periods in _periods(labels):
        known: dict[int, int] = {}  # by period: up to which place it has been tried with sequences this long
        for at, period in periods:
            if known.get(period, -1) >= at:
                continue
            matched, limit = _extend(line, labels, at, period)
            known[period] = matched
            stretch = _Stretch(at, min(matched + period, limit), period)
            if stretch.run().count >= 2:  # noqa: PLR2004
                stretches[stretch] = None
    return list(stretches)


def _periods(labels: list[int]) -> Iterator[list[tuple[int, int]]]:
    """Yield, for sequences of 1, 2, 4 … labels, each place whose sequence occurs again, and how far away."""
    grams, length = labels, 1
    while length <= min(LONGEST_GRAM, len(labels)):
        last: dict[int, int] = {}
        places = []
        for at in range(len(grams) - 1, -1, -1):
            again = last.get(grams[at])
            last[grams[at]] = at
            if again is not None:
                places.append((at, again - at))
        places.reverse()
        yield places
        if all(2 * period <= length for _, period in places):
            return  # longer sequences repeat no otherwise than these
        grams, length = _doubled(grams, length), 2 * length


def _doubled(grams: list[int], length: int) -> list[int]:
    numbers: dict[tuple[int, int], int] = {}
    pairs = zip(grams, grams[length:], strict=False)
    return [numbers.setdefault(pair, len(numbers)) for pair in pairs]


def _extend(line: Line, labels: list[int], start: int, period: int) -> tuple[int, int]:
    """Return up to which place each matches the one a period later, and before which place the run must end."""
    onward, limit, at = line.onward, len(labels), start
    while at + period < limit and labels[at] == labels[at + period]:
        for (one, _), (other, _) in zip(onward[at], onward[at + period], strict=True):
            if other - one == period:
                continue
            # To the rest of the graph: alike if it leads to the like, and the run ends before.
            nearest = min(one, other)
            if nearest <= at + period or labels[one] != labels[other]:
                return at, limit
            limit = min(limit, nearest)
        at += 1
    return min(at, limit), limit


def _aligned(line: Line, stretch: _Stretch) -> Run:
    """Return the run in a stretch whose segments begin, where there is room, where module calls do."""
    run = stretch.run()
    shifts = range(min(stretch.end - run.end, run.width - 1) + 1)
    best = min(shifts, key=lambda shift: (_cut(line, run.start + shift), shift))
    return replace(run, start=run.start + best)


def _cut(line: Line, at: int) -> int:
    """Return how many module calls a cut before this place would cut through."""
    if not at:
        return 0
    here, before = line.nodes[at].call, line.nodes[at - 1].call
    around = set()
    while here is not None:
        around.add(here)
        here = line.graph.calls[here].parent
    count = 0
    while before is not None:
        count += before in around
        before = line.graph.calls[before].parent
    return count
