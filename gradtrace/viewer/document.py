"""Document of the page, made from a trace: an overview of the run, and each pass as the trace has it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from gradtrace.explain.formulas import edge_formulas, letters_of, pinned
from gradtrace.model import Report
from gradtrace.viewer.cards import METRICS
from gradtrace.wording.numbers import Scale
from gradtrace.wording.phrases import alt_text, differentiated, note, title
from gradtrace.wording.quoting import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.model import BackwardPass, Finding, LeafSeries, Trace

__all__ = ["overview", "pass_data"]

LONGEST = 2000  # characters of the words for who can't see the picture
COLUMNS = 1200  # passes of a leaf that the map of passes shows
LEFT_OUT = {"forward": (), "held": ()}  # of a pass: what only explain needs


def overview(trace: Trace, findings: Sequence[Finding], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return what the page says of the run: its passes, leaves over the passes, findings and source files."""
    return {
        "title": one_line(PurePath(trace.command[0]).name) if trace.command else "gradtrace",
        "command": trace.command,
        "versions": trace.versions,
        "made": trace.made,
        "passes": [_row(trace, graph) for graph in trace.passes],
        "series": [msgspec.to_builtins(_thinned(series)) for series in trace.series],
        "findings": msgspec.to_builtins(findings),
        "error": msgspec.to_builtins(trace.error),
        "sources": texts,
        "metrics": METRICS,
    }


def _thinned(series: LeafSeries) -> LeafSeries:
    """Return a series of no more passes than a map has columns: of each stretch the worst pass."""
    count = len(series.passes)
    if count <= COLUMNS:
        return series
    bounds = [at * count // COLUMNS for at in range(COLUMNS + 1)]
    kept = [max(range(a, b), key=lambda at: _badness(series, at)) for a, b in pairwise(bounds)]
    columns = ([values[at] for at in kept] for values in (series.passes, series.norms, series.reached))
    passes, norms, reached = columns
    return replace(series, passes=passes, norms=norms, reached=reached)


def _badness(series: LeafSeries, at: int) -> tuple[bool, bool, float]:
    """Return how much a pass must not be missed: not finite, not reached, or else the larger one."""
    norm = series.norms[at]
    return series.reached[at] and norm is None, not series.reached[at], norm or 0.0


def pass_data(graph: BackwardPass, torch: str = "") -> dict[str, Any]:
    """Return a pass as the trace has it, with the scale of its gradients, what is differentiated, and formulas.

    ``torch`` is the version that made it.
    """
    scale = Scale.of(graph)
    found: dict[str, Any] = msgspec.to_builtins(replace(graph, **LEFT_OUT))
    notes = {node.id: note(node) for node in graph.nodes if note(node)}
    about = {"scale": [scale.low, scale.high], "of": differentiated(graph), "notes": notes}
    return {**found, **about, "formulas": _formulas(graph, torch)}


def _formulas(graph: BackwardPass, torch: str) -> dict[str, list[str]]:
    """Return the formulas of what each node sent on, if the torch that made it is the one of the committed table."""
    table = pinned()
    if torch.partition("+")[0] not in {"", table.torch}:
        return {}
    rest = letters_of(graph)
    found = {node.id: edge_formulas(graph, node, table, rest) for node in graph.nodes if node.op in table}
    return {node_id: formulas for node_id, formulas in found.items() if any(formulas)}


def _row(trace: Trace, graph: BackwardPass) -> dict[str, Any]:
    outputs = [node for node in graph.nodes if node.kind == "output"]
    return {
        "index": graph.index,
        "kind": graph.kind,
        "title": title(Report(trace, graph)),
        "words": shorten(alt_text(Report(trace, graph)), LONGEST),
        "nodes": len(graph.nodes),
        "edges": len(graph.edges),
        "parent": graph.parent,
        "rank": graph.rank,
        "error": graph.error is not None,
        "call": msgspec.to_builtins(graph.call),
        "outputs": [[one_line(node.name), msgspec.to_builtins(node.values[:1])] for node in outputs[:4]],
    }
