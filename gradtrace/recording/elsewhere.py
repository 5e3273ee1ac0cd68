"""What the forward mode does not see by itself: custom Functions, and threads that the script starts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.logs import Logs

__all__ = ["function_patch", "stack_patches", "thread_patch"]

# Bytes of address space: memory is taken as it is used, and this is enough for two million nodes.
_STACK = 2**29


def function_patch(logs: Logs) -> Patch:
    """Return the patch that notes the calls of custom Functions, whose ``apply`` goes straight to C++."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        return logs.here().mode.apply(original.__get__(None, cls), args, kwargs)

    return Patch(torch.autograd.Function, "apply", classmethod(apply))


def thread_patch(logs: Logs) -> Patch:
    """Return the patch that enters a mode in each thread that starts: modes are a thread's own."""
    original = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def bootstrap(thread: threading.Thread) -> None:
        if logs.closed:
            original(thread)
            return
        with logs.here().mode:
            original(thread)

    return Patch(threading.Thread, "_bootstrap_inner", bootstrap)


def stack_patches() -> list[Patch]:
    """Return the patches that give each thread that starts a stack with room for deep graphs: see depth.py."""
    names = ("_start_joinable_thread", "_start_new_thread")
    return [Patch(threading, name, _roomy(getattr(threading, name))) for name in names if hasattr(threading, name)]


def _roomy(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(*args: Any, **kwargs: Any) -> Any:
        if threading.stack_size():  # chosen by the script
            return original(*args, **kwargs)
        try:
            threading.stack_size(_STACK)
            return original(*args, **kwargs)
        except RuntimeError:  # there is not so much address space
            threading.stack_size(0)
            return original(*args, **kwargs)
        finally:
            threading.stack_size(0)

    return start
