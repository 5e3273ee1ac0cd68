"""The data of a page that asks for nothing: every pass, and every view that its folds lead to, while there is room."""

from __future__ import annotations

import json
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradtrace.checks.checker import run
from gradtrace.errors import EngineError
from gradtrace.viewer.document import overview, pass_data
from gradtrace.viewer.layout import Layouts
from gradtrace.viewer.several import by_rank, joined, named_passes
from gradtrace.viewer.sources import source_texts
from gradtrace.viewer.views import ALL, ROOT, Views

if TYPE_CHECKING:
    from gradtrace.model import Finding, Report, Trace

__all__ = ["whole"]

ROOM = 3_400_000  # compressed bytes of views: with base64 and the passes a page stays below 5 MB
SECONDS = 30.0  # that layouts of folds may take in all
MOST_UNFOLDED = 4_000  # nodes of a pass that is also laid out with nothing folded
BATCH = 100  # folds that are laid out at once


def whole(report: Report, timeout: float = 60.0) -> dict[str, Any]:
    """Return what a page shows of a trace, the report's pass first; ``timeout`` are seconds for one layout."""
    trace, parts = joined(by_rank(report.trace))
    passes, start = trace.passes, _start(report, trace)
    findings = run(trace)
    layouts = Layouts(timeout)
    order = sorted(passes, key=lambda graph: graph.index != start)
    views = {graph.index: Views(graph, findings_of(findings, graph.index), layouts) for graph in order}
    layouts.prepare([each.plan(ROOT) for each in views.values()])
    held = {index: {ROOT: each.view(ROOT)} for index, each in views.items()}
    room = _Room()
    _unfold(views, held, room, layouts)
    left_out = sum(_fill(each, held[index], room, layouts) for index, each in views.items())
    data = overview(trace, findings, source_texts(trace))
    return {
        **data,
        "mode": "file",
        "start": start,
        **named_passes(data["passes"], parts),
        "left": left_out,
        "passData": {graph.index: pass_data(graph, trace.versions.get("torch", "")) for graph in passes},
        "views": held,
    }


def _start(report: Report, trace: Trace) -> int:
    """Return the index that the report's pass has, which is another where there are several ranks."""
    alike = [graph.index for graph in trace.passes if graph.rank == report.graph.rank]
    own = [graph.index for graph in report.trace.passes if graph.rank == report.graph.rank]
    return alike[own.index(report.graph.index)] if report.graph.index in own and alike else trace.passes[-1].index


def findings_of(findings: tuple[Finding, ...], index: int) -> tuple[Finding, ...]:
    """Return the findings that a pass is the first to have."""
    return tuple(finding for finding in findings if finding.pass_index == index)


class _Room:
    """How many bytes and seconds are left."""

    def __init__(self) -> None:
        self.bytes, self._until = ROOM, time.monotonic() + SECONDS

    def takes(self, view: dict[str, Any]) -> bool:
        """Tell whether a view still has room, and take it."""
        size = len(zlib.compress(json.dumps(view).encode(), 1))
        if size > self.bytes:
            return False
        self.bytes -= size
        return True

    @property
    def is_open(self) -> bool:
        """Tell whether there is any time left."""
        return time.monotonic() < self._until


def _unfold(views: dict[int, Views], held: dict[int, dict[str, Any]], room: _Room, layouts: Layouts) -> None:
    """Make the view with nothing folded of each pass in which that is no more than can be laid out at once."""
    small = {index: each for index, each in views.items() if len(each.graph.nodes) <= MOST_UNFOLDED}
    with suppress(EngineError):
        layouts.prepare([each.plan(ALL) for each in list(small.values())[:BATCH]])
        for index, each in small.items():
            view = each.view(ALL) if room.is_open else None
            if view is not None and room.takes(view):
                held[index][ALL] = view


def _fill(views: Views, held: dict[str, Any], room: _Room, layouts: Layouts) -> int:
    """Make the views of folds that have room, those seen first before those inside; return how many have none."""
    keys, missing = list(views.keys()), 0
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        if not room.is_open or room.bytes < 0:
            return missing + len(keys) - start
        layouts.prepare([views.plan(key) for key in batch])
        for key in batch:
            view = views.view(key)
            if room.takes(view):
                held[key] = view
            else:
                missing += 1
    return missing
