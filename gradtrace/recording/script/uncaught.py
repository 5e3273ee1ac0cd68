"""An exception that ended the script, told in python's own words: see ``PyErr_PrintEx`` in CPython."""

from __future__ import annotations

import sys
from contextlib import suppress

from gradtrace.recording.isolation.tracebacks import strip

__all__ = ["report"]

# What python itself displays with, whatever the script puts into ``sys``.
_display = sys.excepthook if sys.excepthook is sys.__excepthook__ else sys.__excepthook__


def report(error: BaseException) -> SystemExit | None:
    """Print the traceback, or the message of an exit; return an exit that ``sys.excepthook`` of the script raised."""
    if isinstance(error, SystemExit):
        _tell_exit(error.code)
        return None
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    raised = _raised_by_hook(error)
    if isinstance(raised, SystemExit):
        _tell_exit(raised.code)
        return raised
    if raised is not None:
        _write("Error in sys.excepthook:\n")
        _show(raised)
        _write("\nOriginal exception was:\n")
        _show(error)
    return None


def _raised_by_hook(error: BaseException) -> BaseException | None:
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        _write("sys.excepthook is missing\n")
        hook = _display
    try:
        hook(type(error), error, error.__traceback__)
    except BaseException as raised:  # noqa: BLE001 - whatever it is, python goes on to tell it
        strip(raised)
        return raised
    return None


def _tell_exit(code: object) -> None:
    """Print what is no exit code, as python does; where it can't be printed, the line is empty."""
    if code is None or isinstance(code, int):
        return
    with suppress(Exception):
        (sys.stderr or sys.__stderr__).write(str(code))  # type: ignore[union-attr]
    _write("\n")


def _show(error: BaseException) -> None:
    _display(type(error), error, error.__traceback__)


def _write(text: str) -> None:
    with suppress(Exception):  # there may be no stderr, or a closed one
        (sys.stderr or sys.__stderr__).write(text)  # type: ignore[union-attr]
