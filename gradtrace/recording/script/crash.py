"""Exception that ended the script: its line, the exceptions behind it, what its frames held.

The kinds of Fact, with ``data``:

    raised       the messages of the exceptions behind the last one: ``messages``
    not-scalar   backward() was called on a tensor of several elements: ``name``, ``shape``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradtrace.model import ErrorInfo, Fact
from gradtrace.recording.user_code.exceptions import message_of
from gradtrace.recording.user_code.frames import Place, is_user_frame

if TYPE_CHECKING:
    from types import FrameType

    from gradtrace.recording.recorder import Recorder

__all__ = ["note_error"]


def note_error(recorder: Recorder, error: BaseException) -> None:
    """Note the exception that ended the script, at its innermost line of the user's; its frames are not kept."""
    place: Place | None = None
    for frame, instruction in _frames(error):
        if is_user_frame(frame):
            place = frame.f_code, instruction
    recorder.error = ErrorInfo(type(error).__name__, message_of(error), recorder.sources(place))
    recorder.facts_of_end = (*_behind(error), *_not_scalar(error))


def _behind(error: BaseException) -> tuple[Fact, ...]:
    """Return the messages of the exceptions that led to this one."""
    chain = [error]
    for found in chain:
        behind = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
        # By identity: __eq__ may be the script's.
        if behind is not None and not any(behind is known for known in chain):
            chain.append(behind)
    said: list[Any] = [message_of(found) for found in chain[1:]]
    return (Fact("raised", data={"messages": said}),) if said else ()


def _not_scalar(error: BaseException) -> tuple[Fact, ...]:
    if "implicitly created only for scalar outputs" not in message_of(error):
        return ()
    frames = [frame for frame, _ in _frames(error)]
    made = next((frame for frame in frames if frame.f_code.co_name == "_make_grads"), None)
    outputs = made.f_locals.get("outputs", ()) if made else ()
    wide = [output for output in outputs if isinstance(output, torch.Tensor) and output.numel() != 1]
    found = [(_name(tensor, frames), list(tensor.shape)) for tensor in wide]
    return tuple(Fact("not-scalar", data={"name": name, "shape": [*shape]}) for name, shape in found)


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame, trace.tb_lasti))
        trace = trace.tb_next
    return found


def _name(tensor: torch.Tensor, frames: list[FrameType]) -> str:
    for frame in reversed(frames):
        if is_user_frame(frame):
            for name, value in frame.f_locals.items():
                if value is tensor:
                    return name
    return ""
