"""What an exception's frames tell after the script died: facts of errors raised before the engine was called.

The kind of Fact, with ``data``:

    not-scalar   backward() was called on a tensor of several elements: ``name``, ``shape``
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradtrace.model import Fact
from gradtrace.recording.sources import is_user_frame

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["facts_of"]


def facts_of(error: BaseException | None) -> tuple[Fact, ...]:
    """Return what the frames of ``error`` tell; nothing is kept of them."""
    if error is None or "implicitly created only for scalar outputs" not in str(error):
        return ()
    frames = _frames(error)
    made = next((frame for frame in frames if frame.f_code.co_name == "_make_grads"), None)
    outputs = made.f_locals.get("outputs", ()) if made else ()
    wide = [output for output in outputs if isinstance(output, torch.Tensor) and output.numel() != 1]
    found = [(_name(tensor, frames), list(tensor.shape)) for tensor in wide]
    return tuple(Fact("not-scalar", data={"name": name, "shape": [*shape]}) for name, shape in found)


def _frames(error: BaseException) -> list[FrameType]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(trace.tb_frame)
        trace = trace.tb_next
    return found


def _name(tensor: torch.Tensor, frames: list[FrameType]) -> str:
    for frame in reversed(frames):
        if is_user_frame(frame):
            for name, value in frame.f_locals.items():
                if value is tensor:
                    return name
    return ""
