"""Pause of forward recording while none of the next passes will be kept (``--pass 100``).

Other passes keep only a row for each leaf, for which ``.grad`` is enough (see backward/leaf_grads.py). The forward of a
few passes before a kept one is also recorded, as their nodes may be used again. A kept pass lacks lines only for nodes
that were made long before, during the pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.recording.forward.thread_logs import RECENT
from gradtrace.recording.isolation.function_modes import insert, remove

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from gradtrace.recording.forward.thread_logs import ThreadLog, ThreadLogs
    from gradtrace.recording.isolation.patch import Removable

__all__ = ["ForwardPause"]


class ForwardPause:
    """Holds the parts that record the forward, and uninstalls them while none of the next passes is kept.

    A mode can't be removed while it runs, as it does around ``loss.backward()``; so the pause begins with the next call
    of a module or step of an optimizer, where ``pause_if_due`` is to be called.

    Args:
        logs: the logs of all threads; a pause needs that only one of them makes graphs.
        keep: the passes to keep; none for a recording without pauses.
    """

    def __init__(self, logs: ThreadLogs, keep: Collection[int]) -> None:
        self.is_paused = False
        self._logs = logs
        self._keep = keep
        self._near_until = max((index for index in range(RECENT + 2) if index in keep), default=0)
        self._parts: list[Removable] = []
        self._is_installed = self._due = False
        self._log: ThreadLog | None = None  # of the thread whose mode was removed; only that thread can insert it again

    def holding(self, parts: Iterable[Removable]) -> ForwardPause:
        """Hold these parts, first to last."""
        self._parts = list(parts)
        return self

    def install(self) -> None:
        """Install the parts, except during a pause."""
        self._is_installed = True
        if not self.is_paused:
            for part in self._parts:
                part.install()

    def uninstall(self) -> None:
        """Uninstall the parts."""
        self._is_installed = False
        if not self.is_paused:
            for part in reversed(self._parts):
                part.uninstall()

    def pass_ended(self, index: int) -> None:
        """Note that this pass has ended, after which a pause may begin or end."""
        if self._keep and self._is_installed:
            ahead = index + 1 + RECENT
            if ahead in self._keep:
                self._near_until = max(self._near_until, ahead)
            near = self._near_until > index
            self._due = not near
            if self.is_paused and near and self._log is self._logs.here():
                insert(self._log.mode)
                self.is_paused = False
                self.install()

    def pause_if_due(self, *_: Any) -> None:
        """Begin the pause, if it is due."""
        if not self._due or self.is_paused or not self._is_installed or not self._logs.is_single:
            return
        log = self._logs.here()
        if log.modules.depth > 1 or remove(log.mode) < 0:  # the ends of nested calls must be noted
            return
        log.modules.close()
        self._log = log
        self.uninstall()
        self.is_paused = self._is_installed = True
