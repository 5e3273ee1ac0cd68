"""Words for a fold: what a box is called and holds, and how to open it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

from gradtrace.ops import op_name
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import number, stats
from gradtrace.wording.phrases import expression
from gradtrace.wording.quoting import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.fold import Box, Flow, Folded
    from gradtrace.model import BackwardPass, TensorStats

__all__ = [
    "content",
    "counted_findings",
    "curve_ends",
    "details",
    "flow",
    "inside",
    "made_by",
    "names",
    "opening_lines",
]

MOST_OPS = 4  # that a box names
MOST_FACTS = 12  # lines of a list in a tooltip


def names(box: Box, graph: BackwardPass) -> tuple[str, str]:
    """Return what a fold is called, and what it is: ``h.0 … h.11 × 12`` and ``Block``."""
    path, _, kind = box.name.partition("\n")
    call = graph.calls[box.call] if box.call is not None else None
    if box.kind == "module" and call:
        return one_line(call.path) or call.type, call.type
    ops = [graph.by_id[node_id].op for node_id in box.nodes]
    if box.kind == "chain":
        return shorten(" → ".join(map(op_name, ops)), 60), "views and casts"
    if box.kind == "run":
        segment = ops[: len(ops) // box.count]
        title = one_line(path) or shorten(" → ".join(op_name(op) for op in segment[:6]), 40)
        return f"{title} × {box.count:,}", kind
    if box.name:
        return f"{box.name}: {len(box.nodes):,} node{'s' * (len(box.nodes) != 1)}", one_line(call.path) if call else ""
    return " … ".join(dict.fromkeys((box.nodes[0], box.nodes[-1]))), one_line(call.path) if call else ""


def content(box: Box) -> str:
    """Return how much a box holds: ``684 nodes, 144 parameters``."""
    parts = [f"{len(box.nodes):,} node{'s' * (len(box.nodes) != 1)}"]
    if box.leaves:
        parts.append(f"{len(box.leaves):,} leaf" if len(box.leaves) == 1 else f"{len(box.leaves):,} leaves")
    return " and ".join(parts)


def made_by(box: Box, graph: BackwardPass) -> str:
    """Return the code that made all nodes in a box, where it is one, or the lines that it spans."""
    first = graph.by_id[box.nodes[0]]
    sources = [node.library or node.source for node in map(graph.by_id.__getitem__, box.nodes[:5000])]
    spots = {(s.filename, s.line, s.text) for s in sources if s}
    if len(spots) == 1 and all(sources):
        return f"{expression(first)} · {position(sources[0])}" if sources[0] else ""
    files = {s.filename for s in sources if s}
    lines = [s.line for s in sources if s]
    if len(files) != 1:
        return ""
    last = f"–{max(lines)}" if max(lines) > min(lines) else ""
    return f"{one_line(PurePath(files.pop()).name)}:{min(lines)}{last}"


def flow(gradients: Flow, word: str) -> str:
    """Return gradients taken together: ``in 4×4 ‖0.1‖``, ``in, 3 tensors ‖0.2‖``."""
    if gradients.tensors <= 1:
        return f"{word} {stats(gradients.stats)}"
    joint = gradients.stats
    return (
        f"{word}, {gradients.tensors} tensors {stats(joint) if joint is None or joint.norm is None else _joint(joint)}"
    )


def inside(box: Box) -> str:
    """Return the smallest and largest norm inside, and what has none."""
    summary = box.summary
    parts = []
    if summary.low and summary.high:
        same = summary.low[0] == summary.high[0]
        ends = f"{number(summary.low[0])} ({summary.low[1]}) to {number(summary.high[0])} ({summary.high[1]})"
        parts.append(f"inside ‖{number(summary.low[0])}‖" if same else f"inside {ends}")
    counts = ((summary.zero, "zero"), (summary.none, "without gradient"), (summary.broken, "not finite"))
    return ", ".join([*parts, *(f"{count:,} {word}" for count, word in counts if count)])


def counted_findings(box: Box) -> list[tuple[str, str]]:
    """Return severity and words of what the checks found in a box, the worst first, equal ones counted."""
    order = {"error": 0, "warning": 1, "info": 2}
    counts = Counter((finding.severity, finding.check) for finding in box.findings)
    ranked = sorted(counts.items(), key=lambda item: (order[item[0][0]], item[0][1]))
    return [(severity, f"{check}{f' × {n}' if n > 1 else ''}") for (severity, check), n in ranked]


def curve_ends(box: Box) -> tuple[str, str]:
    """Return the first and the last value of a run's curve."""
    return _point(box.summary.curve[0]), _point(box.summary.curve[-1])


def opening_lines(folded: Folded) -> list[str]:
    """Return what was folded and which option opens it, one line per option."""
    if not folded.openings:
        return []
    by_option: dict[str, list[str]] = {}
    for each in folded.openings:
        by_option.setdefault(each.option, []).append(each.what)
    size = f"{len(folded.graph.nodes):,} nodes in {len(folded.boxes):,} boxes"
    cut = by_option.pop("", [])
    return [
        *cut,
        *([size] if by_option else []),
        *(f"folded: {', '.join(what)} (opens with {option})" for option, what in by_option.items()),
    ]


def details(box: Box, graph: BackwardPass) -> str:
    """Return all that there is to say about a fold, one fact per line."""
    ops = Counter(graph.by_id[node_id].op for node_id in box.nodes).most_common()
    leaves = [f"{one_line(graph.by_id[leaf].name) or leaf}: {_grad(graph, leaf)}" for leaf in box.leaves]
    facts = [
        *names(box, graph),
        content(box),
        made_by(box, graph),
        inside(box),
        *_most([f"{op} × {n:,}" for op, n in ops]),
        *_most(leaves),
        *_most([f"{finding.severity}: {one_line(finding.message)}" for finding in box.findings]),
    ]
    return "\n".join(filter(None, facts))


def _joint(joint: TensorStats) -> str:
    if joint.nan or joint.inf:
        return stats(joint)
    return f"‖{number(joint.norm)}‖"


def _point(norm: float | None) -> str:
    return "none" if norm is None else "not finite" if math.isnan(norm) else number(norm)


def _grad(graph: BackwardPass, leaf: str) -> str:
    grads = graph.by_id[leaf].grads
    return f"grad {stats(grads[0] if grads else None)}"


def _most(lines: Sequence[str]) -> list[str]:
    rest = [f"and {len(lines) - MOST_FACTS} more"] if len(lines) > MOST_FACTS else []
    return [*lines[:MOST_FACTS], *rest]
