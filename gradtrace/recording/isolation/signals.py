"""Signals of the script, deferred while gradtrace's own code runs around its call of the engine.

A signal handler that raises there (Ctrl-C, a timeout) would leave notes half written, and dynamo, where a
compiled function calls backward, would trace each function of gradtrace. Both are off until the script continues.
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

__all__ = ["DeferredSignals"]

# Signals whose handlers commonly raise.
_SIGNALS = tuple(int(getattr(signal, name)) for name in ("SIGINT", "SIGALRM", "SIGTERM") if hasattr(signal, name))


class DeferredSignals:
    """Defers signals while entered, other than in functions wrapped by ``undeferred``.

    ``frame`` is the frame of the script that handlers are called with. With ``signals=False`` nothing is deferred:
    that takes as long as noting a small pass.
    """

    def __init__(self, frame: FrameType, *, signals: bool = True) -> None:
        self._frame = frame
        self._numbers = _SIGNALS if signals and threading.get_ident() == threading.main_thread().ident else ()
        self._held: dict[int, Any] = {}
        self._came: list[tuple[int, Any]] = []
        self._switch: Any = None

    def __enter__(self) -> Self:
        """Start to defer."""
        try:
            self._take()
        except BaseException:
            self._give()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop deferring; a handler whose signal arrived meanwhile runs now, and may raise."""
        self._give()

    def undeferred(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``run`` wrapped to run with the script's own handlers."""

        def run_lent(*args: Any, **kwargs: Any) -> Any:
            try:
                self._give()
                return run(*args, **kwargs)
            finally:
                self._take()

        return run_lent

    def _take(self) -> None:
        for number in self._numbers:
            handler = _signal.getsignal(number)
            if handler and callable(handler):  # 0 and 1 are SIG_DFL and SIG_IGN
                self._held[number] = handler
                _signal.signal(number, self._note)
        if "torch._dynamo.eval_frame" in sys.modules:
            self._switch = torch._C._dynamo.eval_frame.set_eval_frame(None)

    def _give(self) -> None:
        if self._switch is not None:
            torch._C._dynamo.eval_frame.set_eval_frame(self._switch)
            self._switch = None
        held = self._held
        try:
            while held:
                number, handler = next(iter(held.items()))
                _signal.signal(number, handler)
                del held[number]
        finally:
            if held:  # unless a restored handler has raised already
                self._give()
        while self._came:
            number, handler = self._came.pop(0)
            handler(number, self._frame)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came.append((number, self._held[number]))
