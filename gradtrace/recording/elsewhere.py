"""What the forward mode does not see by itself: custom Functions, and threads that the script starts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.forward import ForwardMode

if TYPE_CHECKING:
    from contextlib import ExitStack

    from gradtrace.recording.logs import Logs

__all__ = ["watch_functions", "watch_threads"]


def watch_functions(logs: Logs, undo: ExitStack) -> None:
    """Note the calls of custom Functions, whose ``apply`` goes straight to C++."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        function = original.__get__(None, cls)
        return ForwardMode(logs.here().calls).apply(lambda *given: function(*given, **kwargs), args)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
    undo.callback(setattr, torch.autograd.Function, "apply", original)


def watch_threads(logs: Logs, undo: ExitStack) -> None:
    """Enter a mode in each thread that starts: modes are a thread's own."""
    original = getattr(threading.Thread, "_bootstrap_inner", None)
    if original is None:
        return  # then only the lines of ops made in other threads are missing

    def bootstrap(thread: threading.Thread) -> None:
        with ForwardMode(logs.here().calls):
            original(thread)

    threading.Thread._bootstrap_inner = bootstrap  # type: ignore[attr-defined]
    undo.callback(setattr, threading.Thread, "_bootstrap_inner", original)
