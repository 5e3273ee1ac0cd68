"""The data of a page that asks for nothing: every pass, and every view that its folds lead to, while there is room."""

from __future__ import annotations

import json
import time
import zlib
from typing import TYPE_CHECKING, Any

from gradtrace.checks.checker import run
from gradtrace.errors import EngineError
from gradtrace.viewer.document import overview, pass_data
from gradtrace.viewer.sources import source_texts
from gradtrace.viewer.views import ALL, ROOT, Views

if TYPE_CHECKING:
    from gradtrace.model import Finding, Report

__all__ = ["whole"]

ROOM = 3_400_000  # compressed bytes of views: with base64 and the passes a page stays below 5 MB
SECONDS = 30.0  # that layouts of folds may take in all
SLOW = 6.0  # that the layout of a whole pass, nothing folded, may take


def whole(report: Report, timeout: float = 60.0) -> dict[str, Any]:
    """Return what a page shows of a trace, the report's pass first; ``timeout`` are seconds for one layout."""
    passes = report.trace.passes
    findings = run(report.trace)
    views = {graph.index: Views(graph, findings_of(findings, graph.index), timeout) for graph in passes}
    data = overview(report.trace, findings, source_texts(report.trace))
    held: dict[int, dict[str, Any]] = {index: {} for index in views}
    room = _Room()
    order = sorted(passes, key=lambda graph: graph.index != report.graph.index)
    for graph in order:
        held[graph.index][ROOT] = views[graph.index].view(ROOT)
    left_out = sum(_fill(views[graph.index], held[graph.index], room) for graph in order)
    return {
        **data,
        "mode": "file",
        "start": report.graph.index,
        "left": left_out,
        "passData": {graph.index: pass_data(graph, report.trace.versions.get("torch", "")) for graph in passes},
        "views": held,
    }


def findings_of(findings: tuple[Finding, ...], index: int) -> tuple[Finding, ...]:
    """Return the findings that a pass is the first to have."""
    return tuple(found for found in findings if found.pass_index == index)


class _Room:
    """How many bytes and seconds are left."""

    def __init__(self) -> None:
        self.bytes, self._until = ROOM, time.monotonic() + SECONDS

    def takes(self, view: dict[str, Any]) -> bool:
        """Tell whether a view still has room, and take it."""
        size = len(zlib.compress(json.dumps(view).encode(), 6))
        if size > self.bytes:
            return False
        self.bytes -= size
        return True

    @property
    def open(self) -> bool:
        """Whether there is any time left."""
        return time.monotonic() < self._until


def _fill(views: Views, held: dict[str, Any], room: _Room) -> int:
    """Make the views of a pass that have room, those seen first before those inside; return how many have none."""
    missing = 0
    for key in views.keys():  # noqa: SIM118 - no dictionary
        view = views.view(key) if room.open else None
        if view is None or not room.takes(view):
            missing += 1
            continue
        held[key] = view
    try:
        unfolded = views.view(ALL) if room.open else None
    except EngineError:
        unfolded = None
    if unfolded is not None and room.takes(unfolded):
        held[ALL] = unfolded
    return missing
