"""The time between the script's call of the engine and the engine's run, and after it, which is ours.

A signal handler that raised in it (Ctrl-C, a timeout) would leave our notes half written, and dynamo, where a
compiled function calls backward, would look at each function of ours. Both wait until the script goes on.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # signal itself makes enums of all numbers, and takes ten times as long
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["OwnTime"]

# Those whose handlers commonly raise.
_SIGNALS = tuple(int(getattr(signal, name)) for name in ("SIGINT", "SIGALRM", "SIGTERM") if hasattr(signal, name))


class OwnTime:
    """While entered, the time is ours; what is run as ``lent`` is the script's again.

    ``frame`` is where the script is meanwhile: what its handlers are told.
    """

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame
        self._is_main = threading.get_ident() == threading.main_thread().ident
        self._held: dict[int, Any] = {}
        self._came: list[tuple[int, Any]] = []
        self._switch: Any = None

    def __enter__(self) -> Self:
        """Take the time."""
        try:
            self._take()
        except BaseException:
            self._give()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back; a handler whose signal came meanwhile runs now, and may raise."""
        self._give()

    def lent(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``run`` as it is for the script."""

        def run_lent(*args: Any, **kwargs: Any) -> Any:
            try:
                self._give()
                return run(*args, **kwargs)
            finally:
                self._take()

        return run_lent

    def _take(self) -> None:
        for number in _SIGNALS if self._is_main else ():
            handler = _signal.getsignal(number)
            if callable(handler):
                self._held[number] = handler
                _signal.signal(number, self._note)
        self._switch = _switch_to(None)

    def _give(self) -> None:
        if self._switch is not None:
            _switch_to(self._switch)
            self._switch = None
        try:
            for number, handler in list(self._held.items()):
                _signal.signal(number, handler)
                del self._held[number]
        finally:
            if self._held:  # a handler that is back already has raised
                self._give()
        while self._came:
            number, handler = self._came.pop(0)
            handler(number, self._frame)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came.append((number, self._held[number]))


def _switch_to(callback: Any) -> Any:
    """Set dynamo's callback, unseen by those who watch it; return what it was."""
    if "torch._dynamo.eval_frame" not in sys.modules:
        return None
    return torch._C._dynamo.eval_frame.set_eval_frame(callback)
