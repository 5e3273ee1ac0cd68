"""Log of torch calls: the sequence numbers of the nodes that each made, its place, and what it computed."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.user_code.frames import Place

__all__ = ["Call", "CallLog", "Maker"]

# A torch call: first sequence number of its nodes, end of their range; the user's place, and a library's; the value
# of the first output of the last node, if measured. A plain tuple, because there is one for each op.
Call = tuple[int, int, Place | None, Place | None, Measured | None]


class Maker(NamedTuple):
    """Backward node that made other nodes when it ran: its pass, position there, op and number."""

    pass_index: int
    position: int
    op: str
    number: int


class CallLog:
    """Calls made by one thread, by the sequence numbers of their nodes."""

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
        """Return the values of the forward outputs of the node with this sequence number, made by this call."""
        held = None if call is None or number != call[1] - 1 else call[4]
        return self.values.get(number, {}) if held is None else {0: held}

    def add_made(self, start: int, end: int, maker: Maker) -> None:
        """Note that the run of a node made the nodes from ``start`` up to ``end``, which get its place."""
        call = self.call(maker.number)
        self.calls.append((start, end, call[2], call[3], None) if call else (start, end, None, None, None))
        for number in range(start, end):
            self._makers[number] = maker

    def maker(self, number: int) -> Maker | None:
        """Return the backward node whose run made the node with this sequence number."""
        return self._makers.get(number)

    def forget(self, kept: set[int], before: int) -> None:
        """Drop everything older than ``before``, except the nodes whose numbers are in ``kept``."""
        self.calls = [call for call in self.calls if call[0] >= before or not kept.isdisjoint(range(call[0], call[1]))]
        self._starts = []
        self.values = {key: value for key, value in self.values.items() if key >= before or key in kept}
        self._makers = {key: value for key, value in self._makers.items() if key >= before or key in kept}

    def __len__(self) -> int:
        """Return the number of calls in the log."""
        return len(self.calls)
