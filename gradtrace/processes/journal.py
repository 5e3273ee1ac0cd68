"""A trace file that is whole after each pass, so that a process that is killed leaves what it had recorded."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.model import Fact

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import BackwardPass, Trace

__all__ = ["UNFINISHED", "Journal"]

UNFINISHED = "unfinished"  # a Fact of a file whose process ended before it could write the whole
_PAUSE = 20  # times as long as it took to write: so it takes no more than a twentieth of the script's time


class Journal:
    """Writes the passes of a running script to a file, behind which the rest of the trace is written again each time.

    In a compressed file each part is a member of its own. When the script has ended, the whole trace takes its place.

    Args:
        name: tells the name of the file, absolute, from the trace of the first passes: by then the process knows its
            rank. Nothing is written where it is empty.
    """

    def __init__(self, name: Callable[[Trace], str]) -> None:
        self._name = name
        self._path: Path | None = None
        self._written: set[int] = set()
        self._end = 0  # of the passes
        self._due = 0.0
        self._process = os.getpid()

    def passed(self, trace_until_now: Callable[[], Trace]) -> None:
        """Write the passes that have ended since the last time, unless that was only just; an error is not told."""
        start = monotonic()
        if start < self._due or os.getpid() != self._process:
            return
        with suppress(OSError):
            self._write(trace_until_now())
        self._due = monotonic() + _PAUSE * (monotonic() - start)

    def _write(self, trace: Trace) -> None:
        if self._path is None:
            self._path = Path(self._name(trace))
        if not self._path.name:
            return
        if not self._written <= {graph.index for graph in trace.passes}:  # of which the last alone is kept
            self._end, self._written = 0, set()
        fresh = [graph for graph in trace.passes if graph.index not in self._written]
        new = not self._end
        parts = [self._packed(_opening(trace))] if new else []
        parts += [self._packed(self._listed(graph)) for graph in fresh]
        passes, rest = b"".join(parts), self._packed(_rest(trace))
        with self._path.open("wb" if new else "r+b") as file:
            file.seek(self._end)
            file.write(passes + rest)
            file.truncate()
        self._end += len(passes)

    def _listed(self, graph: BackwardPass) -> bytes:
        comma = b"," if self._written else b""
        self._written.add(graph.index)
        return comma + b"".join(tracefile.pass_pieces(graph))

    def _packed(self, data: bytes) -> bytes:
        packs = self._path is not None and self._path.name.lower().endswith(".gz")
        return gzip.compress(data, 6, mtime=0) if packs else data


def _opening(trace: Trace) -> bytes:
    """Return the trace's file up to its first pass."""
    lists: dict[str, Any] = dict.fromkeys(("passes", "series", "facts", "errors", "pass_series", "updates"), ())
    head = replace(trace, error=None, world=None, **lists)
    return tracefile.dumps(head).rstrip()[:-1] + b',"passes":['


def _rest(trace: Trace) -> bytes:
    """Return what follows the last pass, marked as unfinished."""
    rank = trace.world.ranks[0] if trace.world is not None else 0
    facts = (*trace.facts, Fact(UNFINISHED, rank=rank))
    rest = tracefile.dumps(replace(trace, passes=(), command=(), versions={}, facts=facts))
    return b"]," + rest[rest.index(b",") + 1 :]
