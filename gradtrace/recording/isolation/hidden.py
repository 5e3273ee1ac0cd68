"""Hidden calls: gradtrace's own calls of torch, which modes, traces and profilers of the script must not meet."""

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
    """Tell whether a mode of the script's (ours is aside by now), a trace or a profiler would see our calls."""
    return bool(_dispatches() or has_modes() or profiler._is_profiler_enabled or torch._C._get_tracing_state())


def call_hidden(function: Callable[..., T], *args: Any) -> T:
    """Call a function of ours unseen, from the midst of the script: its signal handlers may raise at any moment.

    Each state is set inside the ``try`` whose ``finally`` first of all sets it back; a context manager written in
    Python can be struck as it is entered or left, and leave the state to the script.
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
    # A node of ours would save tensors, and run the hooks that the script has for saved tensors.
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
    """Make the calls of torch in this block invisible to all of them, at a time that is ours."""
    grad, tracing, profiled = torch.is_grad_enabled(), torch._C._get_tracing_state(), profiler._is_profiler_enabled
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch(), torch._C._DisableAutocast():
        try:
            _set_aside(tracing, profiled=profiled)
            yield
        finally:
            torch._C._set_grad_enabled(grad)
            _set_back(tracing, profiled=profiled)
