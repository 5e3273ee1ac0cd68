"""Torch function modes of this thread: insertion and removal of gradtrace's mode beneath those of the script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["RecordingMode", "insert", "remove"]


class RecordingMode(TorchFunctionMode):
    """Base of the mode that records: tracebacks leave its calls out, and torch.compile never sees it."""

    def note(self, start: int, frame: FrameType, result: Any = None) -> None:
        """Note that the call made in ``frame`` made the nodes from sequence number ``start`` until now."""
        raise NotImplementedError


def remove(mode: TorchFunctionMode) -> int:
    """Remove the mode from this thread's stack; return how many stood above it, or -1 if it is not there."""
    above = []
    while torch._C._len_torch_function_stack():
        found = torch._C._pop_torch_function_stack()
        if found is mode:
            break
        above.append(found)
    else:
        found = None
    for other in reversed(above):
        torch._C._push_on_torch_function_stack(other)
    return len(above) if found is mode else -1


def insert(mode: TorchFunctionMode, above: int = 0) -> None:
    """Insert the mode into this thread's stack, below as many others as stood above it."""
    others = [torch._C._pop_torch_function_stack() for _ in range(min(above, torch._C._len_torch_function_stack()))]
    torch._C._push_on_torch_function_stack(mode)
    for other in reversed(others):
        torch._C._push_on_torch_function_stack(other)
