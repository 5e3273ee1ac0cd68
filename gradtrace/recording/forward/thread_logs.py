"""Logs of threads: torch calls and module calls, by the thread that made them."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.forward.call_log import Call, CallLog
from gradtrace.recording.forward.live_nodes import living_numbers
from gradtrace.recording.forward.mode import ForwardMode
from gradtrace.recording.forward.modules import ModuleLog

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from gradtrace.recording.forward.mode import CallObserver

__all__ = ["RECENT", "ThreadLog", "ThreadLogs"]

# Calls below which nothing is dropped; the calls of a pass are kept in any number.
_ROOM = 5_000
# Most recent calls, whose results may not have reached a variable yet.
_NEWEST = 64
# Passes whose nodes may be used again: the two losses of a GAN, a shared encoding.
RECENT = 16


class ThreadLog:
    """Calls and module calls made by one thread."""

    def __init__(self) -> None:
        self.calls = CallLog()
        self.mode = ForwardMode(self.calls)
        self.modules = ModuleLog()
        self.mode.on_full = self.forget_dead
        self._room = self._full = _ROOM
        self._recent: deque[tuple[int, array[int]]] = deque()

    @property
    def is_used(self) -> bool:
        """Whether there is anything in the log."""
        return bool(len(self.calls)) or self.modules.is_used

    def note_pass(self, numbers: array[int], waiting: int = 0) -> None:
        """Note that a pass used these nodes; if the log is long, drop what the last passes did not use.

        ``waiting``: the number of last passes still to be assembled, all of which are remembered.
        """
        self._recent.append((sequence_number(), numbers))
        while len(self._recent) > max(RECENT, waiting):
            self._recent.popleft()
        if len(self.calls) > self._room:
            used, before = self._used(), self._recent[0][0]
            self.calls.forget(used, before)
            self.modules.forget(min(used, default=before))
            self._room = max(_ROOM, 2 * len(self.calls))

    def forget_dead(self) -> None:
        """Drop calls whose nodes are gone without a backward; finding them takes long."""
        if len(self.calls) < self._full:
            return
        kept = self._used() | living_numbers()
        self.calls.forget(kept, self.calls.calls[-_NEWEST:][0][0])
        self.modules.forget(min(kept, default=sequence_number()))
        self._full = max(_ROOM, 2 * len(self.calls))

    def _used(self) -> set[int]:
        return {number for _, some in self._recent for number in some}


class ThreadLogs:
    """Logs of all threads."""

    def __init__(self) -> None:
        self.closed = False
        self._all: list[ThreadLog] = []
        self._local = threading.local()
        # Creates the observer of each torch call of a thread, if there is any.
        self.call_observer: Callable[[ThreadLog], CallObserver] | None = None

    def here(self) -> ThreadLog:
        """Return the log of this thread."""
        try:
            return self._local.log  # type: ignore[no-any-return]
        except AttributeError:
            log = self._local.log = ThreadLog()
            log.calls.closed = self.closed
            log.mode.call_observer = self.call_observer(log) if self.call_observer is not None else None
            self._all.append(log)
            return log

    @property
    def is_single(self) -> bool:
        """Whether a single thread has made all nodes and called all modules so far."""
        return sum(log.is_used for log in self._all) <= 1

    def of(self, own: ThreadLog, number: int) -> tuple[ThreadLog, Call | None]:
        """Return the log that has the node with this number, of this thread if possible, and the call that made it."""
        call = own.calls.call(number)
        if call is not None:
            return own, call
        return next(((log, found) for log in self._all if (found := log.calls.call(number))), (own, None))

    def close(self) -> None:
        """Close all logs."""
        self.closed = True
        for log in self._all:
            log.calls.closed = True
            log.mode.call_observer = None  # a mode in another thread may outlive the recording
