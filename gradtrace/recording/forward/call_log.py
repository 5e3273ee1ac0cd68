"""Log of torch calls: the sequence numbers of the nodes that each made, its place, and what it computed."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.user_code.frames import Place

__all__ = ["Call", "CallLog", "Maker"]

# A torch call: the first number of the nodes that it made, the number beyond the last; the user's place, and a
# library's; what it computed, where that is the first output of the last node. A plain tuple: there is one for each op.
Call = tuple[int, int, Place | None, Place | None, Measured | None]


class Maker(NamedTuple):
    """A backward node that made other nodes when it ran: its pass, position there, op and number."""

    pass_index: int
    position: int
    op: str
    number: int


class CallLog:
    """The calls that one thread made, by the sequence numbers of their nodes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.values: dict[int, dict[int, Measured]] = {}  # of all other nodes, by output
        self.closed = False  # set when the recording ends; the mode of another thread may outlive it
        self._makers: dict[int, Maker] = {}
        self._starts: list[int] = []

    def call(self, number: int) -> Call | None:
        """Return the call that made the node with this sequence number."""
        starts, calls = self._starts, self.calls
        if len(starts) < len(calls):
            starts += [call[0] for call in calls[len(starts) :]]
        at = bisect_right(starts, number) - 1
        return calls[at] if at >= 0 and number < calls[at][1] else None

    def values_of(self, call: Call | None, number: int) -> dict[int, Measured]:
        """Return what the forward outputs of the node with this sequence number held, which this call made."""
        held = None if call is None or number != call[1] - 1 else call[4]
        return self.values.get(number, {}) if held is None else {0: held}

    def add_made(self, start: int, end: int, maker: Maker) -> None:
        """Note that a node's run made the nodes from ``start`` up to ``end``; they share its place."""
        call = self.call(maker.number)
        self.calls.append((start, end, call[2], call[3], None) if call else (start, end, None, None, None))
        for number in range(start, end):
            self._makers[number] = maker

    def maker(self, number: int) -> Maker | None:
        """Return the backward node whose run made the node with this sequence number."""
        return self._makers.get(number)

    def forget(self, kept: set[int], before: int) -> None:
        """Drop all that is older than ``before``, other than the nodes whose numbers are in ``kept``."""
        self.calls = [call for call in self.calls if call[0] >= before or not kept.isdisjoint(range(call[0], call[1]))]
        self._starts = []
        self.values = {key: value for key, value in self.values.items() if key >= before or key in kept}
        self._makers = {key: value for key, value in self._makers.items() if key >= before or key in kept}

    def __len__(self) -> int:
        """Return the number of calls held."""
        return len(self.calls)
