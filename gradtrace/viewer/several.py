"""Several traces as one, to be looked at side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.model import BackwardPass, LeafSeries, Trace

__all__ = ["joined"]


def joined(traces: Sequence[Trace]) -> Trace:
    """Return the passes of several traces in one, numbered on; what else there is of a trace is the first one's."""
    first, *others = traces
    passes, series = list(first.passes), {(each.name, each.shape): each for each in first.series}
    made = first.made
    for trace in others:
        passes += [_later(graph, made) for graph in trace.passes]
        for each in trace.series:
            key = (each.name, each.shape)
            series[key] = _longer(series.get(key, replace(each, passes=[], norms=[], reached=[])), each, made)
        made += trace.made
    return replace(first, passes=tuple(passes), series=tuple(series.values()))


def _later(graph: BackwardPass, by: int) -> BackwardPass:
    return replace(graph, index=graph.index + by, parent=graph.parent and graph.parent + by)


def _longer(one: LeafSeries, two: LeafSeries, by: int) -> LeafSeries:
    indices = [index + by for index in two.passes]
    return replace(one, passes=one.passes + indices, norms=one.norms + two.norms, reached=one.reached + two.reached)
