"""Tracebacks and stacks as they would be without gradtrace.

A recorded call of a torch function runs through the mode, and a function written in Python is entered twice: once to
dispatch to the mode, and once more from there. A module call has an extra frame because of the global hooks. These
frames, and those that start the script, are removed wherever Python's own modules print a stack.
"""

from __future__ import annotations

import dis
import inspect
import sys
import threading
import traceback
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.overrides import handle_torch_function

from gradtrace.files import PACKAGE_FOLDER
from gradtrace.recording.isolation.function_modes import RecordingMode
from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.user_code.entry import OUTERMOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

__all__ = ["Entry", "entries_of", "inspect_patches", "plain_entries", "plain_traceback", "strip", "traceback_patches"]

_HAND_OVER = handle_torch_function.__code__
_CALL = nn.Module._call_impl.__code__
# The function that calls a module with hooks, and the position of the call in it without hooks.
_INNER = next((item for item in _CALL.co_consts if getattr(item, "co_name", "") == "inner"), None)


def _plain_call() -> tuple[int, int]:
    """Return the instruction and the line of the first call in ``_call_impl``, that of ``forward``."""
    for step in dis.get_instructions(_CALL):
        if step.opname == "CALL_FUNCTION_EX" and step.positions is not None:
            return step.offset, step.positions.lineno or 0
    return 0, _CALL.co_firstlineno


_PLAIN_CALL = _plain_call()


class Entry(NamedTuple):
    """Frame, with the instruction and line it is at."""

    frame: FrameType
    instruction: int
    line: int


def plain_entries(entries: list[Entry]) -> list[Entry]:
    """Return those entries that would exist without gradtrace, from the innermost outwards, each as it would be."""
    kept, after_own, after_hand_over, after_inner = [], False, False, False
    for entry in entries:
        code = entry.frame.f_code
        if code is OUTERMOST:
            break
        own = code.co_filename.startswith(PACKAGE_FOLDER)
        hand_over = code is _HAND_OVER and (after_own or _is_to_us(entry.frame))
        inner = code is _INNER and _is_plain_call(entry.frame)
        if not (own or hand_over or after_hand_over or inner):
            kept.append(entry._replace(instruction=_PLAIN_CALL[0], line=_PLAIN_CALL[1]) if after_inner else entry)
        after_own, after_hand_over, after_inner = own, hand_over, inner
    return kept


def _is_to_us(frame: FrameType) -> bool:
    """Tell whether this frame of ``handle_torch_function`` calls our mode; the compiled mode has no frame."""
    return isinstance(frame.f_locals.get("mode"), RecordingMode)


def _is_plain_call(frame: FrameType) -> bool:
    """Tell whether this call of a module would run no hook without gradtrace."""
    module = frame.f_locals.get("self")
    names = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
    # This question does not count our own hooks.
    others: bool = nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    return not others and not any(getattr(module, name, None) for name in names)


def plain_traceback(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames that gradtrace adds."""
    found: list[Entry] = []
    while trace is not None:
        found.append(Entry(trace.tb_frame, trace.tb_lasti, trace.tb_lineno))
        trace = trace.tb_next
    kept: TracebackType | None = None
    for frame, instruction, line in plain_entries(found[::-1]):
        kept = types.TracebackType(kept, frame, instruction, line)
    return kept


def strip(error: BaseException | None) -> None:
    """Remove the frames that gradtrace adds from the traceback of ``error`` and of the exceptions behind it."""
    chain = [] if error is None else [error]
    known = set(map(id, chain))
    for found in chain:
        found.__traceback__ = plain_traceback(found.__traceback__)
        for other in (found.__cause__, found.__context__):
            if other is not None and id(other) not in known:
                known.add(id(other))
                chain.append(other)


def traceback_patches() -> list[Patch]:
    """Return the patches by which the script's own tracebacks and stacks omit gradtrace."""
    full, short, stack = traceback._walk_tb_with_full_positions, traceback.walk_tb, traceback.walk_stack  # type: ignore[attr-defined]
    unraisable = sys.unraisablehook
    make_hook = threading._make_invoke_excepthook  # type: ignore[attr-defined]

    def walk_stack(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
        if frame is None:
            return stack(frame)  # counts the calls between itself and the caller
        return ((entry.frame, entry.line) for entry in plain_entries(entries_of(frame)))

    def make_invoke_excepthook() -> Callable[[threading.Thread], None]:
        invoke = make_hook()

        def invoke_stripped(thread: threading.Thread) -> None:
            strip(sys.exception())
            invoke(thread)

        return invoke_stripped

    def unraisable_stripped(happened: Any) -> None:
        strip(happened.exc_value)
        # The hook shows the traceback passed to it, not the exception's own.
        parts = (happened.exc_type, happened.exc_value, happened.exc_value and happened.exc_value.__traceback__)
        unraisable(type(happened)((*parts, happened.err_msg, happened.object)))

    return [
        Patch(sys, "unraisablehook", unraisable_stripped),
        Patch(traceback, "_walk_tb_with_full_positions", lambda trace: full(plain_traceback(trace))),
        Patch(traceback, "walk_tb", lambda trace: short(plain_traceback(trace))),
        Patch(traceback, "walk_stack", walk_stack),
        Patch(threading, "_make_invoke_excepthook", make_invoke_excepthook),
    ]


def inspect_patches() -> list[Patch]:
    """Return the patches by which ``inspect`` omits gradtrace from the script's stack."""
    inner = inspect.getinnerframes

    def outer_frames(frame: FrameType | None, context: int = 1) -> list[inspect.FrameInfo]:
        return [_info(entry, context) for entry in plain_entries(entries_of(frame))]

    def inner_frames(trace: TracebackType | None, context: int = 1) -> list[inspect.FrameInfo]:
        return inner(plain_traceback(trace), context)  # type: ignore[arg-type] # of None it knows, too

    return [Patch(inspect, "getouterframes", outer_frames), Patch(inspect, "getinnerframes", inner_frames)]


def _info(entry: Entry, context: int) -> inspect.FrameInfo:
    found = inspect.getframeinfo(types.TracebackType(None, *entry), context)
    return inspect.FrameInfo(entry.frame, *found, positions=found.positions)


def entries_of(frame: FrameType | None) -> list[Entry]:
    """Return the frames from this one outwards, as entries."""
    found = []
    while frame is not None:
        found.append(Entry(frame, frame.f_lasti, frame.f_lineno))
        frame = frame.f_back
    return found
