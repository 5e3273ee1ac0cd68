"""Logs of threads: the torch calls and module calls that each made."""

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

# Below this many calls nothing is dropped; a pass of a million nodes is kept whole all the same.
_ROOM = 5_000
# Calls that have only just been made, whose results may not have reached a variable.
_NEWEST = 64
# Passes whose nodes may well be used again: the two losses of a GAN, an encoding that all share.
RECENT = 16


class ThreadLog:
    """The calls and module calls that one thread made."""

    def __init__(self) -> None:
        self.calls = CallLog()
        self.mode = ForwardMode(self.calls)
        self.modules = ModuleLog()
        self.mode.on_full = self.forget_dead
        self._room = self._full = _ROOM
        self._recent: deque[tuple[int, array[int]]] = deque()

    @property
    def is_used(self) -> bool:
        """Whether there is anything in it."""
        return bool(len(self.calls)) or self.modules.is_used

    def note_pass(self, numbers: array[int], waiting: int = 0) -> None:
        """Note that a pass used these nodes; when there is much, drop what the last passes did not use.

        ``waiting``: so many of the last passes are still to be told of, and all of them are remembered.
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
        """Drop what was made without a backward, and is gone; whether it is takes long to find out."""
        if len(self.calls) < self._full:
            return
        kept = self._used() | living_numbers()
        self.calls.forget(kept, self.calls.calls[-_NEWEST:][0][0])
        self.modules.forget(min(kept, default=sequence_number()))
        self._full = max(_ROOM, 2 * len(self.calls))

    def _used(self) -> set[int]:
        return {number for _, some in self._recent for number in some}


class ThreadLogs:
    """The logs of all threads."""

    def __init__(self) -> None:
        self.closed = False
        self._all: list[ThreadLog] = []
        self._local = threading.local()
        # Gives what is shown each torch call of a thread, if anything is.
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
        """Whether one thread alone has made all nodes and called all modules until now."""
        return sum(log.is_used for log in self._all) <= 1

    def of(self, own: ThreadLog, number: int) -> tuple[ThreadLog, Call | None]:
        """Return the log that knows the node with this number, the thread's own, else any other's; and its call."""
        call = own.calls.call(number)
        if call is not None:
            return own, call
        return next(((log, found) for log in self._all if (found := log.calls.call(number))), (own, None))

    def close(self) -> None:
        """Take no more notes."""
        self.closed = True
        for log in self._all:
            log.calls.closed = True
            log.mode.call_observer = None  # that of another thread may outlive the recording
