"""Torch function mode: notes which call of the script made which node, and its forward value.

Nodes carry a sequence number, counted per thread. Reading the counter before and after each torch call
brackets the numbers of all nodes that the call made, composite ops included; nothing else is needed to
find a node's line later. This runs once per torch call of the script, so it appends one tuple and returns.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.forward.call_log import CallLog
from gradtrace.recording.forward.monkeypatched import TRUSTED, original_of
from gradtrace.recording.isolation.function_modes import RecordingMode
from gradtrace.recording.isolation.hidden import call_hidden, has_modes, is_watched
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.measure import address, is_shareable, measure, same_memory
from gradtrace.recording.user_code.entry import OUTERMOST
from gradtrace.recording.user_code.frames import USER, find_user_place, owners

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

__all__ = ["CallObserver", "ForwardMode"]


# Calls whose results are remembered, so that views of them are not measured again.
_RECENT = 64
# Calls between two searches for nodes that no longer live.
_FULL = 65_536
_PLAIN = {torch.Tensor, torch.nn.Parameter}


CallObserver = Callable[[Any, tuple[Any, ...], dict[str, Any] | None, Any, int], None]


class PythonMode:
    """Base of the mode that calls ``note`` around each torch call; the C part has the same."""

    _log: CallLog
    _note: Callable[[int, int, Any, FrameType], None]
    on_full: Callable[[], None]
    _show: Callable[[tuple[Any, ...], Any, int], None]
    call_observer: CallObserver | None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` with the mode off, and note the nodes that it makes."""
        if func not in TRUSTED:
            func = original_of(func, sys._getframe(1))
        start = sequence_number()
        result = func(*args, **kwargs) if kwargs else func(*args)
        end = sequence_number()
        if end != start:
            self._note(start, end, result, sys._getframe(1))
            if len(self._log) % _FULL == 0:
                self.on_full()
        if self.call_observer is not None:
            self._show((func, types, args, kwargs), result, end if end != start else -1)
        return result


def custom_function() -> None:
    """Marker that call observers receive as the function of each ``apply`` of a custom Function."""


class ForwardMode(NATIVE.Mode if NATIVE is not None else PythonMode, RecordingMode):  # type: ignore[misc]
    """Notes in ``log`` each torch call of this thread that makes a node, and its value."""

    def __init__(self, log: CallLog) -> None:
        super().__init__()
        self._log = log
        # Called with each call after it ran, and the number after its last node (-1 if it made none).
        self.call_observer: CallObserver | None = None
        # Called when the log has become very long, as in a loop that never calls backward.
        self.on_full: Callable[[], None] = lambda: None
        self._recent: dict[int, tuple[weakref.ref[torch.Tensor], int, Measured]] = {}

    def _show(self, call: tuple[Any, ...], result: Any, last: int) -> None:
        """Show a call to the observer, with the number after its last node, or -1 if it made none."""
        func, types, args, kwargs = call
        if self.call_observer is None:
            return
        if _PLAIN.issuperset(types) and not is_watched():  # reads of attributes pass torch's own types
            self.call_observer(func, args, kwargs, result, last)
            return
        # The types have a __torch_function__ of their own.
        call_hidden(self.call_observer, func, args, kwargs, result, last)

    def apply(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``apply`` of a custom Function, which bypasses the mode, and note its nodes."""
        start = sequence_number()
        result = function(*args, **kwargs)
        self.note(start, sys._getframe(2), result)
        end = sequence_number()
        self._show((custom_function, (), args, kwargs), result, end if end != start else -1)
        return result

    def note(self, start: int, frame: FrameType, result: Any = None) -> None:
        """Note that the call made in ``frame`` made the nodes from ``start`` until now."""
        end = sequence_number()
        if end != start:
            self._note(start, end, result, frame)

    def _note(self, start: int, end: int, result: Any, frame: FrameType) -> None:
        log = self._log
        calls = log.calls
        if log.closed or (calls and calls[-1][0] >= start):
            return  # a call of the engine, whose nodes were noted when it made them
        user, library = find_user_place(frame)
        if calls:  # Equal places share one object: a loop has one place instead of one per iteration.
            last = calls[-1]
            if last[2] == user:
                user = last[2]
            if last[1] == start:
                start = last[1]
        plain = type(result) is torch.Tensor and not has_modes()
        if plain and result.requires_grad and not result.output_nr and _is_of_last(result, start, end):
            calls.append((start, end, user, library, self._measure(result)))
            return
        calls.append((start, end, user, library, None))
        # Attribute reads must bypass the script's modes around ours, and tensor subclasses.
        with torch._C.DisableTorchFunction():
            self._add_values(start, (result,))

    def _add_values(self, start: int, results: Iterable[Any]) -> None:
        """Measure those results whose node is not older than ``start``."""
        for result in results:
            if type(result) is torch.Tensor or isinstance(result, torch.Tensor):
                node = result.grad_fn
                if node is not None and (number := node._sequence_nr()) >= start:
                    self._log.values.setdefault(number, {})[result.output_nr] = self._measure(result)
            elif isinstance(result, (tuple, list)):
                self._add_values(start, result)

    def _measure(self, result: torch.Tensor) -> Measured:
        """Measure a result, unless it is a view of the same elements as a recent one that still lives."""
        recent = self._recent
        if recent:
            known = recent.get(address(result))
            if known is not None:
                other = known[0]()
                if other is not None and known[1] == result._version:
                    same = same_memory(result, other, known[2])
                    if same is not None:
                        return same
        measured = measure(result)
        if is_shareable(measured):
            self._remember(result, measured)
        return measured

    def _remember(self, result: torch.Tensor, measured: Measured) -> None:
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[address(result)] = (weakref.ref(result), result._version, measured)


def _is_of_last(result: torch.Tensor, start: int, end: int) -> bool:
    """Tell whether a result belongs to the last of the nodes that its call made."""
    return end - start == 1 or bool(result.grad_fn is not None and result.grad_fn._sequence_nr() == end - 1)


if NATIVE is not None:
    NATIVE.setup(
        sequence_number=sequence_number,
        trusted=TRUSTED,
        original_of=original_of,
        owners=owners,
        USER=USER,
        outermost=OUTERMOST,
        find_user_place=find_user_place,
    )
