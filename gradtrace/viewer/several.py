"""Several traces as one, to be looked at side by side: of several runs, or of the ranks of one."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.model import FORMAT_VERSION, Trace
from gradtrace.processes.merging import of_rank, ranks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.model import BackwardPass, LeafSeries

__all__ = ["Part", "by_rank", "joined", "named_passes"]


class Part(Struct, frozen=True):
    """One of the traces: what it is called, how many passes come before its own, and its last pass."""

    name: str
    before: int
    last: int


def by_rank(trace: Trace) -> dict[str, Trace]:
    """Return the traces of the ranks by what they are called; of a single process the trace itself."""
    ranks = ranks_of(trace)
    return {f"rank {rank}": of_rank(trace, rank) for rank in ranks} if len(ranks) > 1 else {"": trace}


def joined(traces: Mapping[str, Trace]) -> tuple[Trace, tuple[Part, ...]]:
    """Return the passes of several traces in one, numbered on; what else there is of a trace is the first one's."""
    first = next(iter(traces.values()), Trace(FORMAT_VERSION))
    passes: list[BackwardPass] = []
    series: dict[Any, LeafSeries] = {}
    parts: list[Part] = []
    made = 0
    for name, trace in traces.items():
        passes += [_later(graph, made) for graph in trace.passes]
        for each in trace.series:
            key = (each.name, each.shape)
            series[key] = _longer(series.get(key, replace(each, passes=[], norms=[], reached=[])), each, made)
        ends = [graph.index + made for graph in trace.passes if graph.parent is None][-1:]
        parts += [Part(PurePath(name).name, made, ends[0])] if ends else []
        made += trace.made
    whole = replace(first, passes=tuple(passes), series=tuple(series.values())) if len(traces) > 1 else first
    return whole, tuple(parts)


def named_passes(rows: Sequence[dict[str, Any]], parts: Sequence[Part]) -> dict[str, Any]:
    """Put the name of its trace into the title of each pass; return which passes to show side by side at first."""
    if len(parts) < 2:  # noqa: PLR2004
        return {}
    for row in rows:
        part = [part for part in parts if part.before < row["index"]][-1]
        row["title"] = f"{part.name} · backward pass {row['index'] - part.before}"
    return {"title": " · ".join(part.name for part in parts), "start": parts[0].last, "beside": parts[1].last}


def _later(graph: BackwardPass, by: int) -> BackwardPass:
    return replace(graph, index=graph.index + by, parent=graph.parent and graph.parent + by)


def _longer(one: LeafSeries, two: LeafSeries, by: int) -> LeafSeries:
    indices = [index + by for index in two.passes]
    return replace(one, passes=one.passes + indices, norms=one.norms + two.norms, reached=one.reached + two.reached)
