"""The passes of one run as the server shows them: all of a trace, or those of a script that still runs."""

from __future__ import annotations

from threading import Condition, RLock
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gradtrace.checks.checker import Checker
from gradtrace.errors import NothingRecordedError, UnknownNameError
from gradtrace.model import FORMAT_VERSION, Trace
from gradtrace.processes.merging import read_all
from gradtrace.viewer.document import overview, pass_data
from gradtrace.viewer.layout import Layouts
from gradtrace.viewer.several import Part, by_rank, joined, named_passes
from gradtrace.viewer.sources import source_texts
from gradtrace.viewer.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.model import BackwardPass, Finding

__all__ = ["Run"]

EMPTY = Trace(FORMAT_VERSION)
MOST_NODES = 400_000  # of all passes that are kept; above, every second one is forgotten


class Run:
    """Passes that come one by one or all at once, checked once each; its views are made when they are asked for.

    Args:
        live: whether more may come.
        timeout: seconds that a layout may take.
    """

    def __init__(self, *, live: bool = False, timeout: float = 60.0) -> None:
        self.live, self.words = live, "running" if live else ""
        self.changed = Condition()  # told of each change; ``version`` counts them
        self.version = 0
        self._layouts = Layouts(timeout)
        self._lock = RLock()
        self._trace: Trace | None = None
        self._passes: dict[int, BackwardPass] = {}
        self._checker = Checker()
        self._findings: tuple[Finding, ...] = ()
        self._views: dict[int, tuple[Views, RLock]] = {}
        self._texts: dict[str, str] = {}
        self._parts: tuple[Part, ...] = ()

    @property
    def passes(self) -> int:
        """How many passes are kept."""
        return len(self._passes)

    def grow(self, trace: Trace) -> None:
        """Add what a trace has beyond what is there; of passes with the same index the later one counts."""
        with self._lock:
            for graph in trace.passes:
                if graph.index not in self._passes:
                    self._checker.see(graph)
                self._passes[graph.index] = graph
                self._views.pop(graph.index, None)
            self._thin()
            self._trace = replace(trace, passes=tuple(self._passes[index] for index in sorted(self._passes)))
            self._findings = self._checker.found(self._trace)
            self._texts |= source_texts(trace)
        self._tell()

    def show(self, names: Sequence[str], tell: Callable[[str], None]) -> None:
        """Show saved traces: those of the ranks of one run, or of several runs.

        ``tell`` is told in a line what is missing. Raises TraceFileError, or NothingRecordedError where no pass is
        in them.
        """
        whole = read_all(names, tell)
        if whole.world is None and len(names) > 1:
            traces = {name: read_all([name], tell) for name in names}
        else:
            traces = by_rank(whole)
        trace, self._parts = joined(traces)
        if not trace.passes:
            raise NothingRecordedError("no backward pass was recorded", "record a script that calls backward()")
        self.grow(trace)

    def end(self, words: str) -> None:
        """Say that no more passes will come, and how the run ended."""
        self.live, self.words = False, words
        self._tell()

    def overview(self) -> dict[str, Any]:
        """Return what the page says of the run as it is now."""
        with self._lock:
            found = overview(self._trace, self._findings, self._texts) if self._trace else overview(EMPTY, (), {})
            beginning = named_passes(found["passes"], self._parts)
            return {**found, **beginning, "mode": "server", "live": self.live, "words": self.words}

    def pass_data(self, index: int) -> dict[str, Any]:
        """Return a pass that is kept; raises UnknownNameError."""
        with self._lock:
            torch = self._trace.versions.get("torch", "") if self._trace else ""
            return pass_data(self._graph(index), torch)

    def view(self, index: int, key: str) -> dict[str, Any]:
        """Return a view of a pass; raises UnknownNameError, or EngineError where the layout takes too long."""
        with self._lock:
            graph = self._graph(index)
            found = tuple(finding for finding in self._findings if finding.pass_index == index)
            views, lock = self._views.setdefault(index, (Views(graph, found, self._layouts), RLock()))
        with lock:  # of this pass alone: a slow layout holds up no other
            return views.view(key)

    def _graph(self, index: int) -> BackwardPass:
        if index not in self._passes:
            raise UnknownNameError(f"pass {index} is not kept")
        return self._passes[index]

    def _thin(self) -> None:
        """Forget every second pass, but the first, the last and those with findings, where all are too many."""
        if sum(len(graph.nodes) for graph in self._passes.values()) <= MOST_NODES:
            return
        told = {finding.pass_index for finding in self._findings}
        order = sorted(self._passes)
        for index in order[1:-1:2]:
            if index not in told:
                del self._passes[index]
                self._views.pop(index, None)

    def _tell(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()
