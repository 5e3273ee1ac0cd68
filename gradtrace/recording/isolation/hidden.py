"""Hidden calls: calls of torch by gradtrace that modes, traces and profilers of the script must not see."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.autograd import profiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["call_hidden", "has_modes", "hidden", "is_watched"]

T = TypeVar("T")

_set_tracing: Callable[[object], None] = torch._C._set_tracing_state  # type: ignore[attr-defined]
has_modes: Callable[[], int] = torch._C._len_torch_function_stack
_dispatches: Callable[[], int] = torch._C._len_torch_dispatch_stack


def is_watched() -> bool:
    """Tell whether a mode of the script, a trace or a profiler would see our calls; our own mode is off by now."""
    return bool(_dispatches() or has_modes() or profiler._is_profiler_enabled or torch._C._get_tracing_state())


def call_hidden(function: Callable[..., T], *args: Any) -> T:
    """Call a function of ours unseen while the script runs, whose signal handlers may raise at any moment.

    Each state is set inside the ``try`` whose ``finally`` restores it first. A context manager written in Python can be
    interrupted while it is entered or left, and would leak the state into the script.
    """
    grad, tracing, profiled = torch.is_grad_enabled(), torch._C._get_tracing_state(), profiler._is_profiler_enabled
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch(), torch._C._DisableAutocast():
        try:
            try:
                _set_aside(tracing, profiled=profiled)
                return function(*args)
            finally:
                torch._C._set_grad_enabled(grad)
        finally:
            _set_back(tracing, profiled=profiled)


def _set_aside(tracing: object, *, profiled: bool) -> None:
    # Nodes made here would save tensors, and run the script's hooks for saved tensors.
    torch._C._set_grad_enabled(False)  # noqa: FBT003
    if tracing is not None:
        _set_tracing(None)
    if profiled:
        torch._C._autograd._enable_record_function(False)  # noqa: FBT003


def _set_back(tracing: object, *, profiled: bool) -> None:
    if tracing is not None:
        _set_tracing(tracing)
    if profiled:
        torch._C._autograd._enable_record_function(True)  # noqa: FBT003


@contextmanager
def hidden() -> Iterator[None]:
    """Hide the calls of torch in this block; signals must be deferred already."""
    grad, tracing, profiled = torch.is_grad_enabled(), torch._C._get_tracing_state(), profiler._is_profiler_enabled
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch(), torch._C._DisableAutocast():
        try:
            _set_aside(tracing, profiled=profiled)
            yield
        finally:
            torch._C._set_grad_enabled(grad)
            _set_back(tracing, profiled=profiled)
