"""Output of the commands: messages on stderr, pictures and data to a file or to stdout."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradtrace.cli.stdout import stdout_errors
from gradtrace.files import check_writable, write_whole
from gradtrace.formats.base import FORMATS, Style
from gradtrace.wording.findings import as_text

with suppress(ImportError):  # missing on Windows
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.model import Finding, Report
    from gradtrace.processes.process import Process

__all__ = [
    "Target",
    "busy",
    "keep_stderr",
    "leads",
    "print_error",
    "print_findings",
    "print_table",
    "say",
    "script_ran",
    "show_progress",
    "speak_as",
]

ROWS = 200  # rows of the table in the terminal; a file has all of them
END_OF_LINE = "\x1b[K\r"  # erases the rest of a longer line


class _Stderr:
    """A copy of stderr from before the script ran, which may replace it, close it, or redirect it."""

    def __init__(self) -> None:
        # A high number, so that the files of the script get the same numbers as without gradtrace.
        self._number = fcntl.fcntl(sys.stderr, fcntl.F_DUPFD_CLOEXEC, 100)

    def write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._number, data) :]

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return os.isatty(self._number)


class _NoStderr:
    """Stderr of a process that was started without one."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False


_kept: list[_Stderr] = []


def keep_stderr() -> None:
    """Print messages from now on to the current stderr, or to a test's replacement of it."""
    _kept.clear()
    if sys.platform != "win32" and sys.stderr is sys.__stderr__ and sys.stderr is not None:
        with suppress(OSError):  # it is closed
            _kept.append(_Stderr())


def script_ran() -> bool:
    """Tell whether stdout belongs to a script: python itself reports a failed write to it."""
    return bool(_kept)


class _Voice:
    """Choice of the process that speaks: the first of those recorded; the others only of errors, with their rank."""

    prefix = ""
    leads = True


def speak_as(process: Process, first: int = 0) -> None:
    """Print from now on as one of several processes, of which rank ``first`` prints for all."""
    _Voice.leads = process.rank == first or not process.is_one_of_many
    _Voice.prefix = "" if _Voice.leads else f"[rank {process.rank}] "


def leads() -> bool:
    """Tell whether this process prints for all."""
    return _Voice.leads


def _stderr() -> Any:
    return _kept[0] if _kept else sys.stderr or _NoStderr()


def _write(text: str) -> None:
    """Write to stderr if possible; not by ``print``, which the script may have replaced."""
    stream = _stderr()
    with suppress(OSError, ValueError):  # full or closed: the command goes on without the message
        stream.write(text)
        stream.flush()


def _print(text: str) -> None:
    """Print lines to stderr in one piece, so that those of several processes are not mixed."""
    end = "\x1b[K\n" if _stderr().isatty() else "\n"
    _write("".join(f"{_Voice.prefix}{line}{end}" for line in text.removesuffix("\n").split("\n")))


def say(words: str) -> None:
    """Print a message on stderr; of several processes, only the first one's."""
    if _Voice.leads:
        _print(f"gradtrace: {words}")


def print_error(words: object) -> None:
    """Print an error on stderr, in any process."""
    _print(f"gradtrace: {words}")


def show_progress() -> Callable[[int, object], None] | None:
    """Return a function that shows the number of passes, twice a second; None where there is no terminal."""
    if not (_stderr().isatty() and _Voice.leads):
        return None
    start = last = time.monotonic()

    def show(index: int, _: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > 0.5:  # noqa: PLR2004 - seconds
            last = now
            _show(f"{index:,} backward passes, {now - start:.0f} s")

    return show


@contextmanager
def busy(words: str) -> Iterator[None]:
    """Show a message on a terminal while the block runs."""
    if not (_stderr().isatty() and _Voice.leads):
        yield
        return
    _show(f"{words} ...")
    try:
        yield
    finally:
        _write(END_OF_LINE)


def _show(words: str) -> None:
    _write(f"gradtrace: {words}{END_OF_LINE}")


class Target:
    """The output file, checked before the script starts, or ``-`` for stdout.

    With ``-``, what the script and its child processes print goes to stderr; of several processes the first
    alone writes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = Path(name).absolute()  # the script may change the folder
        self._stdout = -1
        if name == "-":
            with stdout_errors():
                (sys.stdout or _NoStderr()).flush()
                self._stdout = os.dup(1)
                os.dup2(2, 1)
        else:
            check_writable(name)

    def write(self, drawn: str | bytes) -> None:
        """Write the output, whole or not at all."""
        data = drawn.encode() if isinstance(drawn, str) else drawn
        if self._stdout < 0:
            write_whole(self._path, data)
            return
        with stdout_errors(), os.fdopen(self._stdout, "wb") as out:
            out.write(data if _Voice.leads else b"")


def print_table(report: Report, sort: str = "order") -> None:
    """Print the pass as a table, as wide as the terminal; without colours if there is none."""
    if not _Voice.leads:
        return
    width, color = _terminal()
    style = Style(width=width, color=color, rows=ROWS, sort=sort)
    _write("\n" + str(FORMATS["text"].function(report, style)))


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings for a reader; of several processes, those that do not speak for all print errors alone."""
    width, color = _terminal()
    told = [finding for finding in findings if _Voice.leads or finding.severity == "error"]
    if told:
        _print(as_text(told, min(width or 100, 100), color=color))


def _terminal() -> tuple[int | None, bool]:
    """Return the width of the terminal (None if there is none), and whether it shows colours."""
    terminal = _stderr().isatty()
    color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return shutil.get_terminal_size().columns if terminal else None, color
