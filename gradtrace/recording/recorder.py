"""The recorder: while it is entered, every backward pass of this process is recorded."""

from __future__ import annotations

import platform
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import torch
from msgspec import Struct

import gradtrace
from gradtrace.model import FORMAT_VERSION, BackwardPass, ErrorInfo, Trace
from gradtrace.recording.aside import Aside, is_tracing
from gradtrace.recording.assemble import assemble
from gradtrace.recording.elsewhere import function_patch, thread_patch
from gradtrace.recording.logs import Logs
from gradtrace.recording.modules import ModuleHooks
from gradtrace.recording.passes import EngineCall, Kind, RawPass, record_pass
from gradtrace.recording.patch import Patch, Removable
from gradtrace.recording.sources import Sources
from gradtrace.recording.stack import warning_patches

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Options", "Recorder", "versions"]


class Options(Struct, frozen=True):
    """What to record and what to keep.

    Args:
        forward: the line, module and forward value of each node, beside its gradients.
        torchviz: each pass as torchviz draws it, too.
        keep: indices of the passes to keep, from 1; None for all; an empty set for the last one only.
    """

    forward: bool = True
    torchviz: bool = False
    keep: frozenset[int] | None = None


EVERYTHING = Options()
ENGINE = "_engine_run_backward"


class Recorder:
    """Records the backward passes made while it is entered; ``trace`` tells them at any time."""

    def __init__(self, options: Options = EVERYTHING, folders: tuple[str, ...] = ()) -> None:
        self.options = options
        self.count = 0
        self.command: tuple[str, ...] = ()
        self.error: ErrorInfo | None = None
        self.torchviz: dict[int, str] = {}
        self.seeding = False
        self.spaces: tuple[dict[str, Any], ...] = ()
        self.sources = Sources(*folders)
        self._logs = Logs()
        self._kept: list[BackwardPass | RawPass] = []
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Patch, hook and start to watch this thread."""
        with ExitStack() as undo:
            for part in self._parts():
                part.put()
                undo.callback(part.take_away)
            if self.options.forward:
                undo.callback(self._logs.close)
                undo.enter_context(self._logs.here().mode)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Undo all of it."""
        self._undo.close()

    @property
    def trace(self) -> Trace:
        """What was recorded until now, as plain immutable data."""
        self._kept = [assemble(p, self._logs, self.sources) if isinstance(p, RawPass) else p for p in self._kept]
        passes = tuple(p for p in self._kept if isinstance(p, BackwardPass))
        return Trace(FORMAT_VERSION, self.command, versions(), passes, error=self.error)

    def _parts(self) -> list[Removable]:
        """Return all of ours that is put in other people's places, first to last."""
        logs = self._logs
        # backward() and grad() call the engine by the name imported into torch.autograd, others by this one.
        engines = (torch.autograd, torch.autograd.graph)
        engine = [Patch(m, ENGINE, self._recording(getattr(m, ENGINE))) for m in engines]
        if not self.options.forward:
            return [*warning_patches(), *engine]
        traceable: list[Removable] = [
            *warning_patches(),
            function_patch(logs),
            ModuleHooks(lambda: logs.here().modules),
        ]
        return [*traceable, *engine, thread_patch(logs), Aside(traceable, lambda: logs.here().mode)]

    def _recording(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if is_tracing():
                return engine(*args, **kwargs)
            return self._run(EngineCall(engine, args, kwargs), sys._getframe(1))

        return run

    def _run(self, call: EngineCall, frame: FrameType) -> Any:
        self.count += 1
        kind: Kind = "seeded" if self.seeding else "backward" if call.accumulates else "grad"
        raw = RawPass(self.count, kind, self._logs.here())
        raw.draws_torchviz = self.options.torchviz
        try:
            return record_pass(raw, call, frame, self.spaces)
        finally:
            self._logs.note_task(raw.task, raw.index)
            self._keep(raw)

    def _keep(self, raw: RawPass) -> None:
        keep = self.options.keep
        if keep is None or raw.index in keep:
            self._kept.append(raw)
        elif not keep:
            self._kept = [raw]
            self.torchviz.clear()
        else:
            return
        if raw.torchviz is not None:
            self.torchviz[raw.index] = raw.torchviz


def versions() -> dict[str, str]:
    """Return the versions that a trace depends on."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "gradtrace": gradtrace.__version__}
