"""Report of the exception that ended a script, as in ``PyErr_PrintEx`` of CPython."""

from __future__ import annotations

import sys
from contextlib import suppress

from gradtrace.recording.isolation.tracebacks import strip

__all__ = ["report"]

# Python's own display, whatever the script assigns in ``sys``.
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
    """Print an exit status that is not a number, as python does; an empty line if printing it fails."""
    if code is None or isinstance(code, int):
        return
    with suppress(Exception):
        (sys.stderr or sys.__stderr__).write(str(code))  # type: ignore[union-attr]
    _write("\n")


def _show(error: BaseException) -> None:
    _display(type(error), error, error.__traceback__)


def _write(text: str) -> None:
    with suppress(Exception):  # stderr may be missing or closed
        (sys.stderr or sys.__stderr__).write(text)  # type: ignore[union-attr]
