"""The stack as it would be without us: for tracebacks, and for the lines that warnings name.

A watched call of a torch function runs through our mode, and where that function is written in Python it is
entered twice: once to hand over to the mode, and once more from there. Neither these frames nor the calls
between may show.
"""

from __future__ import annotations

import os
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

from torch.overrides import handle_torch_function

from gradtrace.recording.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType, TracebackType

__all__ = ["plain_traceback", "warning_patches"]

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_HAND_OVER = handle_torch_function.__code__


def _hidden(codes: Iterable[CodeType]) -> list[bool]:
    """Tell for each frame, from the innermost outwards, whether it is there because of us."""
    hidden, after_own, after_hand_over = [], False, False
    for code in codes:
        own = code.co_filename.startswith(_OWN_FOLDER)
        hand_over = after_own and code is _HAND_OVER
        hidden.append(own or hand_over or after_hand_over)
        after_own, after_hand_over = own, hand_over
    return hidden


def plain_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames that are there because of us."""
    found: list[TracebackType] = []
    while trace is not None:
        found.append(trace)
        trace = trace.tb_next
    hidden = _hidden(entry.tb_frame.f_code for entry in reversed(found))
    kept: TracebackType | None = None
    for entry, skip in zip(reversed(found), hidden, strict=True):
        if not skip:
            kept = types.TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def _frames(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def warning_patches() -> list[Patch]:
    """Return the patches that let each warning name the line that it would name without us."""
    warn, show = warnings.warn, warnings._showwarnmsg  # type: ignore[attr-defined]

    def warn_in_place(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any) -> None:
        frames = _frames(sys._getframe(1))
        plain = [depth for depth, skip in enumerate(_hidden(f.f_code for f in frames)) if not skip]
        depth = plain[stacklevel - 1] if 1 <= stacklevel <= len(plain) else stacklevel - 1
        warn(message, category, stacklevel=depth + 2, source=source, **more)

    def show_in_place(message: warnings.WarningMessage) -> None:
        if not message.filename.startswith(_OWN_FOLDER):
            show(message)
            return
        # From C++, in a call that our mode made: it goes again through the filters, with the line it belongs to.
        frames = _frames(sys._getframe(1))
        place = _place_beyond(frames, message.filename)
        if place is None:
            show(message)
            return
        _forget_shown(frames)
        registry = place.f_globals.setdefault("__warningregistry__", {})
        module = place.f_globals.get("__name__", "<unknown>")
        warnings.warn_explicit(
            message.message, message.category, place.f_code.co_filename, place.f_lineno, module, registry
        )

    return [Patch(warnings, "warn", warn_in_place), Patch(warnings, "_showwarnmsg", show_in_place)]


def _place_beyond(frames: list[FrameType], filename: str) -> FrameType | None:
    """Return the first frame beyond ours that would be there without us."""
    hidden = _hidden(frame.f_code for frame in frames)
    seen = False
    for frame, skip in zip(frames, hidden, strict=True):
        seen = seen or frame.f_code.co_filename == filename
        if seen and not skip:
            return frame
    return None


def _forget_shown(frames: list[FrameType]) -> None:
    """Forget that our own line has warned, or it would not warn again for another line of the script."""
    for frame in frames:
        if frame.f_code.co_filename.startswith(_OWN_FOLDER):
            frame.f_globals.pop("__warningregistry__", None)
