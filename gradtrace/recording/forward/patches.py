"""Patches for what the mode does not cover: custom Functions, and threads started by the script."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.modules import module

from gradtrace.recording.isolation.patch import Patch, Registered

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.forward.thread_logs import ThreadLogs

__all__ = ["function_patch", "module_change_hooks", "scaler_patch", "thread_patch"]


def function_patch(logs: ThreadLogs) -> Patch:
    """Return the patch that notes calls of custom Functions, whose ``apply`` goes directly to C++."""
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        return logs.here().mode.apply(original.__get__(None, cls), args, kwargs)

    return Patch(torch.autograd.Function, "apply", classmethod(apply))


def module_change_hooks(changed: Callable[..., None]) -> list[Registered]:
    """Return the hooks that call ``changed`` when a module, parameter or buffer is put into a module."""
    registering = (
        module.register_module_module_registration_hook,
        module.register_module_parameter_registration_hook,
        module.register_module_buffer_registration_hook,
    )
    return [Registered(register, changed) for register in registering]


def scaler_patch(*scaling: Callable[[torch.amp.GradScaler], None]) -> Patch:
    """Return the patch that passes each GradScaler that multiplies a loss to all of ``scaling``."""
    original = torch.amp.GradScaler.scale

    @functools.wraps(original)
    def scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
        scaled = original(scaler, outputs)
        for note in scaling:
            note(scaler)
        return scaled

    return Patch(torch.amp.GradScaler, "scale", scale)


def thread_patch(logs: ThreadLogs) -> Patch:
    """Return the patch that enters a mode in each new thread, as modes are thread-local."""
    original = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def bootstrap(thread: threading.Thread) -> None:
        if logs.closed:
            original(thread)
            return
        with logs.here().mode:
            original(thread)

    return Patch(threading.Thread, "_bootstrap_inner", bootstrap)
