"""Backward passes as trace events, which Perfetto and chrome://tracing show on a time axis."""

from __future__ import annotations

import json
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.formats.base import Style, register
from gradtrace.history import pass_rows
from gradtrace.wording.numbers import kind, shape
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Node, Report, TensorStats, Trace

__all__ = ["render"]

NANOSECONDS = 1_000_000_000


class Slice(NamedTuple):
    """A stretch of time, in nanoseconds from the beginning of the recording."""

    name: str
    begin: int
    end: int
    args: dict[str, Any]


@register("perfetto", ".perfetto.json", ".perfetto.json.gz", whole=True)
def render(report: Report, _style: Style) -> str:
    """Trace events for Perfetto and chrome://tracing: passes, modules and nodes with their times."""
    return json.dumps({"traceEvents": list(_events(report.trace))}, allow_nan=False)


def _events(trace: Trace) -> Iterator[dict[str, Any]]:
    """Yield the passes: a process for each rank, a thread for each depth of passes that run inside others."""
    begins = {rank: pass_rows(trace, rank) for rank in sorted({graph.rank for graph in trace.passes})}
    for rank in begins:
        yield {"name": "process_name", "ph": "M", "pid": rank, "tid": 0, "args": {"name": f"rank {rank}"}}
    depths: dict[tuple[int, int | None], int] = {}
    ends: dict[tuple[int, int], int] = {}
    for graph in sorted(trace.passes, key=lambda graph: (graph.rank, graph.index)):
        depth = depths[graph.rank, graph.index] = depths.get((graph.rank, graph.parent), -1) + 1
        row, track = begins[graph.rank].get(graph.index), (graph.rank, depth)
        begin = max(ends.get(track, 0), round(row.seconds * NANOSECONDS) if row else 0)
        slices = list(_slices(graph, begin))
        ends[track] = slices[0].end
        for name, start, end, args in slices:
            times = {"ts": start / 1000, "dur": (end - start) / 1000}  # microseconds
            told = {"name": one_line(name), "cat": "backward", "args": args}
            yield {"ph": "X", "pid": graph.rank, "tid": depth, **times, **told}


def _slices(graph: BackwardPass, begin: int) -> Iterator[Slice]:
    """Yield the pass, its modules, outer ones first, and its nodes, each beginning where the one before it ended."""
    ran = sorted((node for node in graph.nodes if node.order is not None), key=lambda node: node.order or 0)
    timed = [node for node in ran if node.seconds is not None]
    at = list(accumulate((round((node.seconds or 0.0) * NANOSECONDS) for node in timed), initial=begin))
    end = max(at[-1], begin + round((graph.seconds or 0.0) * NANOSECONDS))
    facts = {"pass": graph.index, "step": graph.step, "nodes without a time": len(ran) - len(timed)}
    yield Slice(f"{graph.kind} {graph.index}", begin, end, {key: v for key, v in facts.items() if v is not None})
    paths = [node.module.split(".") if node.module else [] for node in timed]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        inside = [path[:depth] if len(path) >= depth else [] for path in paths]
        for path, run in groupby(range(len(timed)), key=inside.__getitem__):
            if path:
                places = list(run)
                yield Slice(".".join(path), at[places[0]], at[places[-1] + 1], {})
    for place, node in enumerate(timed):
        yield Slice(f"{node.op} {node.name}".strip(), at[place], at[place + 1], _args(node))


def _args(node: Node) -> dict[str, Any]:
    args: dict[str, Any] = {"node": one_line(node.id), "order": node.order}
    if node.source is not None:
        args["line"] = one_line(f"{node.source.filename}:{node.source.line}")
        args["text"] = one_line(node.source.text)
    args["gradient norms"] = [_norm(grad) for grad in node.grads]
    args["shapes"] = [shape(grad.shape) if grad is not None else "none" for grad in node.grads]
    return args


def _norm(grad: TensorStats | None) -> float | str:
    """Return the norm of a gradient, or why it has none."""
    what = kind(grad)
    return grad.norm if grad is not None and grad.norm is not None and what in {"finite", "zero"} else what
