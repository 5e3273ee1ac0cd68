"""What the forward of each thread left behind, and which pass ran under which of the engine's tasks."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from gradtrace.model import Origin
from gradtrace.recording.forward import CallLog, ForwardMode, sequence_number
from gradtrace.recording.modules import ModuleLog

if TYPE_CHECKING:
    from array import array

__all__ = ["RECENT", "Logs", "ThreadLog"]

# Below this many calls nothing is dropped; a pass of a million nodes is kept whole all the same.
_ROOM = 5_000
# Passes whose nodes may well be used again: the two losses of a GAN, an encoding that all share.
RECENT = 16


class ThreadLog:
    """The calls and module calls that one thread made."""

    def __init__(self) -> None:
        self.calls = CallLog()
        self.mode = ForwardMode(self.calls)
        self.modules = ModuleLog()
        self._room = _ROOM
        self._recent: deque[tuple[int, array[int]]] = deque(maxlen=RECENT)

    def make_room(self, numbers: array[int]) -> None:
        """Note that a pass used these nodes; when there is much, drop what the last passes did not use."""
        self._recent.append((sequence_number(), numbers))
        if len(self.calls) <= self._room:
            return
        used = {number for _, some in self._recent for number in some}
        self.calls.forget(used, self._recent[0][0])
        self.modules.forget(min(used, default=0))
        self._room = max(_ROOM, 2 * len(self.calls))


class Logs:
    """The logs of all threads."""

    def __init__(self) -> None:
        self._all: list[ThreadLog] = []
        self._local = threading.local()
        self._tasks: dict[int, int] = {}
        self._ids: dict[int, dict[int, str]] = {}

    def here(self) -> ThreadLog:
        """Return the log of this thread."""
        try:
            return self._local.log  # type: ignore[no-any-return]
        except AttributeError:
            log = self._local.log = ThreadLog()
            self._all.append(log)
            return log

    def of(self, own: ThreadLog, number: int) -> ThreadLog:
        """Return the log that knows the node with this number: the thread's own, else any other's."""
        if own.calls.call(number) is not None:
            return own
        return next((log for log in self._all if log.calls.call(number) is not None), own)

    def close(self) -> None:
        """Take no more notes."""
        for log in self._all:
            log.calls.closed = True

    def note_task(self, task: int, pass_index: int) -> None:
        """Note that the engine ran this pass under this task."""
        if task >= 0:
            self._tasks[task] = pass_index

    def pass_of_task(self, task: int) -> int | None:
        """Return the index of the pass that the engine ran under this task."""
        return self._tasks.get(task)

    def note_ids(self, pass_index: int, ids: dict[int, str]) -> None:
        """Note the ids of the nodes of a pass that made nodes itself."""
        self._ids[pass_index] = ids

    def origin(self, log: ThreadLog, number: int) -> Origin | None:
        """Return the backward node whose run made the node with this number."""
        made = log.calls.maker(number)
        if made is None:
            return None
        return Origin(made.pass_index, self._ids.get(made.pass_index, {}).get(made.position, ""), made.op)
