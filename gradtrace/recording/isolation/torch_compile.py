"""Guard for torch.compile: uninstalls gradtrace while dynamo may trace or run compiled code.

Dynamo reads the stack of modes, the global module hooks and each Python function that it meets, and would
compile them into the user's graph, or break the graph at them. It is active from the moment that its
callback is set until it is reset: everything is uninstalled at the first and installed again at the second.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.isolation.function_modes import insert, remove
from gradtrace.recording.isolation.patch import OnImport, Patch, Removable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from gradtrace.recording.isolation.function_modes import RecordingMode

__all__ = ["DynamoGuard"]


def _owner(frame: FrameType) -> int:
    """Return the owner of the switch: a running call, or an object that is entered and left."""
    if frame.f_code.co_name in {"__enter__", "__exit__"}:
        return id(frame.f_locals["self"])
    return id(frame)


class DynamoGuard:
    """Uninstalls ``parts`` and this thread's mode while dynamo is active."""

    def __init__(self, parts: list[Removable], mode: Callable[[], RecordingMode]) -> None:
        self._parts = parts
        self._mode = mode
        self._local = threading.local()
        self._lock = threading.Lock()
        self._away = 0
        self._patches: list[Patch] = []
        self._imports = (
            OnImport("torch._dynamo", self._watch_switch),
            OnImport("torch.export._trace", self._watch_export),
        )

    def add(self, part: Removable) -> None:
        """Add a part, to be uninstalled before the others."""
        self._parts.insert(0, part)

    def install(self) -> None:
        """Patch dynamo's switch once dynamo is imported, which takes a second and is not done for it."""
        for module in self._imports:
            module.install()

    def uninstall(self) -> None:
        """Remove the patches."""
        for module in self._imports:
            module.uninstall()
        while self._patches:
            self._patches.pop().uninstall()

    def _put(self, patch: Patch) -> None:
        patch.install()
        self._patches.append(patch)

    def _watch_switch(self) -> None:
        from torch._dynamo import eval_frame, trace_rules  # noqa: PLC0415

        trace_rules.add("gradtrace")  # dynamo must not compile functions of gradtrace
        # Different versions call one or the other, and the first may be missing.
        for name in {"set_eval_frame", "_maybe_set_eval_frame"} & vars(eval_frame).keys():
            self._put(Patch(eval_frame, name, self._switch(getattr(eval_frame, name))))

    def _watch_export(self) -> None:
        from torch.export import _trace  # noqa: PLC0415

        strict = getattr(_trace, "_strict_export", None)  # traces without the switch
        if strict is not None:
            self._put(Patch(_trace, "_strict_export", self._exporting(strict)))

    def _switch(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def switch(callback: Any) -> Any:
            caller = sys._getframe(1)
            if not self._patches:  # the script has wrapped our patch, which outlives the recording
                return original(callback)
            if callback is None:
                prior = original(callback)
                self._come_back(caller)
                return prior
            self._go(caller)
            return original(callback)

        return switch

    def _exporting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def export(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe()
            self._go(frame)
            try:
                return original(*args, **kwargs)
            finally:
                self._come_back(frame)

        return export

    def _go(self, caller: FrameType) -> None:
        # The switch toggles many times within a compiled call; only the owner that set it first resets it.
        if getattr(self._local, "away", None) is not None:
            return
        mode = self._mode()
        above = remove(mode)
        self._local.away = (_owner(caller), mode, above, sequence_number())
        self._remove_parts()

    def _come_back(self, caller: FrameType) -> None:
        away = getattr(self._local, "away", None)
        if away is None or away[0] != _owner(caller):
            return
        self._local.away = None
        self._restore_parts()
        _, mode, above, start = away
        if above >= 0:
            insert(mode, above)
            mode.note(start, caller)

    def _remove_parts(self) -> None:
        with self._lock:
            self._away += 1
            if self._away == 1:
                for part in self._parts:
                    part.uninstall()

    def _restore_parts(self) -> None:
        with self._lock:
            self._away -= 1
            if self._away == 0:
                for part in reversed(self._parts):
                    part.install()
