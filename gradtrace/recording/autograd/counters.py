"""Counters and states of autograd: sequence numbers, the engine's task, whether something traces or captures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["accelerator_module", "current_task", "is_capturing", "is_compiled", "is_tracing", "sequence_number"]
__all__ += ["stream_is_captured"]


def is_tracing() -> bool:
    """Tell whether torch traces or captures a graph, where a backward computes no numbers yet."""
    return torch._guards.TracingContext.try_get() is not None or is_capturing()


def is_capturing() -> bool:
    """Tell whether a graph of a device's kernels is being captured, to be replayed later."""
    module = accelerator_module()
    return module is not None and bool(module.is_initialized()) and stream_is_captured(module)


def stream_is_captured(module: Any) -> bool:
    """Tell whether the current stream of a device in use is being captured; takes the device's module."""
    ask = getattr(module, "is_current_stream_capturing", None)
    return ask is not None and bool(ask())


def accelerator_module() -> Any:
    """Return the module of torch's accelerator, such as ``torch.cuda``; None if there is none or it is not imported."""
    accelerator = torch.accelerator.current_accelerator()
    return None if accelerator is None else getattr(torch, accelerator.type, None)


def is_compiled() -> bool:
    """Tell whether the engine will hand the graph to compiled autograd."""
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    return bool(module is not None and module.compiled_autograd_enabled)


sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


current_task: Callable[[], int] = torch._C._current_graph_task_id
