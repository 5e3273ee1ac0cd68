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
from gradtrace.recording.assemble import assemble
from gradtrace.recording.elsewhere import watch_functions, watch_threads
from gradtrace.recording.forward import ForwardMode
from gradtrace.recording.logs import Logs
from gradtrace.recording.modules import watch_modules
from gradtrace.recording.passes import EngineCall, Kind, RawPass, record_pass
from gradtrace.recording.sources import Sources
from gradtrace.recording.stack import keep_warnings_in_place

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
            keep_warnings_in_place(undo)
            self._patch_engine(undo)
            if self.options.forward:
                self._watch_forward(undo)
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

    def _patch_engine(self, undo: ExitStack) -> None:
        # backward() and grad() call the engine by the name imported into torch.autograd, others by this one.
        for module in (torch.autograd, torch.autograd.graph):
            engine = module._engine_run_backward
            undo.callback(setattr, module, "_engine_run_backward", engine)
            module._engine_run_backward = self._recording(engine)  # type: ignore[attr-defined]

    def _recording(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            return self._run(EngineCall(engine, args, kwargs), sys._getframe(1))

        return run

    def _watch_forward(self, undo: ExitStack) -> None:
        undo.callback(self._logs.close)
        undo.enter_context(ForwardMode(self._logs.here().calls))
        for handle in watch_modules(lambda: self._logs.here().modules):
            undo.callback(handle.remove)
        watch_functions(self._logs, undo)
        watch_threads(self._logs, undo)

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
