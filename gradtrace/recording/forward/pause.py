"""Rest between the passes that are kept: what watches the forward is away where nobody will ask for it.

Of all other passes only a row is kept, for which ``.grad`` is enough (see afterwards.py). The forward of a few
passes before a kept one is watched, too: their nodes may be used again. Only what one that is kept uses of a
graph that was made long before, while there was rest, has no line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.recording.forward.thread_logs import RECENT
from gradtrace.recording.isolation.function_modes import insert, remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from gradtrace.recording.forward.thread_logs import Logs, ThreadLog
    from gradtrace.recording.isolation.patch import Removable

__all__ = ["Rest"]


class Rest:
    """Holds the parts that watch the forward, and takes them away while none of the next passes is kept.

    A mode can't be taken out of the stack while it runs, as it does around ``loss.backward()``; so rest begins
    with the next call of a module or step of an optimizer, at which ``fall`` is to be called.

    Args:
        logs: those of all threads; there is rest only where one alone makes graphs.
        keep: the passes to keep; none for a recording that never rests.
    """

    def __init__(self, logs: Logs, keep: Collection[int]) -> None:
        self.on = False
        self._logs = logs
        self._near = {near for index in keep for near in range(index - RECENT, index + 1)}
        self._parts: list[Removable] = []
        self._is_put = self._due = False
        self._log: ThreadLog | None = None  # of the thread whose mode is away: only it can have it back

    def around(self, parts: Iterable[Removable]) -> Rest:
        """Hold these parts, first to last."""
        self._parts = list(parts)
        return self

    def put(self) -> None:
        """Put the parts in their places, unless there is rest."""
        self._is_put = True
        if not self.on:
            for part in self._parts:
                part.put()

    def take_away(self) -> None:
        """Take them away."""
        self._is_put = False
        if not self.on:
            for part in reversed(self._parts):
                part.take_away()

    def passed(self, index: int) -> None:
        """Note that this pass has ended: the next one may begin or end a rest."""
        if self._near and self._is_put:
            near = index + 1 in self._near
            self._due = not near
            if self.on and near and self._log is self._logs.here():
                insert(self._log.mode)
                self.on = False
                self.put()

    def fall(self, *_: Any) -> None:
        """Begin to rest, if that is due."""
        if not self._due or self.on or not self._is_put or not self._logs.is_single:
            return
        log = self._logs.here()
        if log.modules.depth > 1 or remove(log.mode) < 0:  # of calls in each other, each end is noted
            return
        log.modules.close()
        self._log = log
        self.take_away()
        self.on = self._is_put = True
