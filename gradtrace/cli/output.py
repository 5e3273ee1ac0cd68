"""What the commands say and write: words to stderr, pictures and data to a file or to stdout."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradtrace.files import check_writable, write_whole
from gradtrace.formats.base import FORMATS, Style
from gradtrace.wording.findings import as_text

with suppress(ImportError):  # there is none on Windows
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.model import Finding, Report

__all__ = ["Target", "keep_stderr", "print_findings", "print_table", "say", "show_progress"]

ROWS = 200  # of the table in the terminal; a file has all of them


class _Stderr:
    """What stderr was before the script ran, which may replace it, close it, or send it to a file of its own."""

    def __init__(self) -> None:
        # A number so high that the script's files have those that they would have without us.
        self._number = fcntl.fcntl(sys.stderr, fcntl.F_DUPFD_CLOEXEC, 100)

    def write(self, text: str) -> None:
        os.write(self._number, text.encode(errors="backslashreplace"))

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return os.isatty(self._number)


_kept: list[_Stderr] = []


def keep_stderr() -> None:
    """Speak from now on to what is stderr now; where a test stands in for it, to whatever stands there."""
    _kept[:] = [_Stderr()] if sys.platform != "win32" and sys.stderr is sys.__stderr__ else []


def _stderr() -> Any:
    return _kept[0] if _kept else sys.stderr


def say(words: str) -> None:
    """Tell the user something, beside whatever the script prints."""
    print(f"gradtrace: {words}", file=_stderr())


def show_progress() -> Callable[[int], None] | None:
    """Return what tells the terminal, twice a second, how many passes there were; None where there is none."""
    if not _stderr().isatty():
        return None
    last = [time.monotonic()]

    def show(index: int) -> None:
        now = time.monotonic()
        if now - last[0] > 0.5:  # noqa: PLR2004 - seconds
            last[0] = now
            print(f"gradtrace: {index:,} backward passes", end="\r", file=_stderr(), flush=True)

    return show


class Target:
    """Where the output goes: a file, checked before the script starts, or ``-`` for stdout.

    Stdout is then gradtrace's alone: what the script prints, its child processes included, goes to stderr.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = Path(name).absolute()  # the script may change the folder
        self._stdout = -1
        if name == "-":
            sys.stdout.flush()
            self._stdout = os.dup(1)
            os.dup2(2, 1)
        else:
            check_writable(name)

    def write(self, drawn: str | bytes) -> None:
        """Write it, whole or not at all."""
        data = drawn.encode() if isinstance(drawn, str) else drawn
        if self._stdout < 0:
            write_whole(self._path, data)
            return
        with os.fdopen(self._stdout, "wb") as out:
            out.write(data)


def print_table(report: Report, sort: str = "order") -> None:
    """Print the pass as a table, as wide as the terminal; plain and wide where there is none."""
    width, color = _terminal()
    style = Style(width=width, color=color, rows=ROWS, sort=sort)
    print("", FORMATS["text"].function(report, style), sep="\n", end="", file=_stderr())


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings, to be read."""
    width, color = _terminal()
    print(as_text(findings, min(width or 100, 100), color=color), end="", file=_stderr())


def _terminal() -> tuple[int | None, bool]:
    """Return the width of the terminal, None where there is none, and whether it shows colours."""
    terminal = _stderr().isatty()
    color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return shutil.get_terminal_size().columns if terminal else None, color
