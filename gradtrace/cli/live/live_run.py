"""The script of ``gradtrace view`` in a process of its own, which writes its passes to a pipe as they are made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from threading import Lock
from typing import IO, TYPE_CHECKING

import typer

from gradtrace import tracefile
from gradtrace.cli.source import find
from gradtrace.errors import GradtraceError

with_descriptors = sys.platform != "win32"
if with_descriptors:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.model import Trace

__all__ = ["main", "messages", "started"]

# As if started by the installed command: the first entry of the path is replaced by the script's folder.
START = (
    "import os, sys; sys.path[0] = os.path.dirname(sys.executable); "
    "from gradtrace.cli.live.live_run import main; main(sys.argv[1:])"
)
HEAD = 8  # bytes that say how long a message is
ALWAYS = 20  # passes that are sent whatever they cost
SHARE, LEAST = 0.1, 0.5  # of the script's time that sending may take, and seconds between two messages
LAST: frozenset[int] = frozenset()


def started(name: str, arguments: Sequence[str], *, module: bool) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the script with its arguments; return its process, and the pipe of its passes."""
    read, write = os.pipe()
    command = [sys.executable, "-c", START, str(write), "-m" if module else "-", name, *arguments]
    try:
        process = subprocess.Popen(command, pass_fds=(write,))  # noqa: S603 - the user asked to run it
    finally:
        os.close(write)
    return process, os.fdopen(read, "rb")


def messages(stream: IO[bytes]) -> Iterator[Trace]:
    """Yield each trace that a script has written, until it ends."""
    while len(head := stream.read(HEAD)) == HEAD:
        size = int.from_bytes(head)
        data = stream.read(size)
        if len(data) < size:
            return
        yield tracefile.loads(data, "the script's trace")


class Feed:
    """Writes traces to a pipe: the first passes all, later ones as often as they take little of the script's time."""

    def __init__(self, descriptor: int) -> None:
        # A high number, so that the files of the script get the same numbers as without gradtrace.
        self._pipe = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)
        os.close(descriptor)
        self._process, self._lock = os.getpid(), Lock()
        self._next = 0.0

    def passed(self, index: int, trace: Callable[[], Trace]) -> None:
        """Send the trace after a pass, unless it is too soon."""
        start = time.monotonic()
        if os.getpid() != self._process or (index > ALWAYS and start < self._next) or not self._lock.acquire(False):  # noqa: FBT003
            return
        try:
            self.send(trace())
            end = time.monotonic()
            self._next = end + max(LEAST, (end - start) / SHARE)
        finally:
            self._lock.release()

    def send(self, trace: Trace) -> None:
        """Send a trace; once the reader has gone, the script goes on without."""
        if self._pipe < 0:
            return
        data = tracefile.dumps(trace)
        try:
            self._write(len(data).to_bytes(HEAD) + data)
        except OSError:
            self._pipe = -1

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._pipe, rest) :]


def main(words: Sequence[str]) -> None:
    """Run the script that the words name: a descriptor, ``-m`` or ``-``, the script and its arguments."""
    descriptor, kind, name, *arguments = words
    feed = Feed(int(descriptor))
    try:
        recorded = find(name, arguments, module=kind == "-m").record(LAST, progress=feed.passed)
    except typer.Exit as done:  # in a child that the script has forked
        sys.exit(done.exit_code)
    except GradtraceError as error:
        print(f"gradtrace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    feed.send(recorded.trace)
    sys.exit(recorded.exit_code)
