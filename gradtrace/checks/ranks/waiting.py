"""Processes that wait for each other: for one that is slower, or for one that is not there any more."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.ranks.rank_differences import reducing_passes
from gradtrace.model import Finding
from gradtrace.processes.journal import UNFINISHED
from gradtrace.processes.merging import ranks_of
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Trace

__all__ = ["rank_desync", "straggler"]

_WARM = 2  # passes that nobody's time is judged by: the first ones set up buckets and connections
_FEWEST = 3  # passes that are
_MOSTLY = 0.8  # of them in which the same rank has to be the last


@check("rank-desync", merged=True)
def rank_desync(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Ranks that made fewer passes than others whose gradients are reduced: the next collective waits for them."""
    passes = reducing_passes(trace)
    last = max(passes, default=0)
    behind = sorted({*ranks_of(trace)} - {*passes.get(last, {})}) if trace.world is not None else []
    if not behind or not passes or _is_joined(passes):
        return
    ends = {rank: max((index for index, graphs in passes.items() if rank in graphs), default=0) for rank in behind}
    rank = min(behind, key=ends.__getitem__)
    index = min(index for index in passes if index > ends[rank])
    ahead = next(graph for graph in passes[index].values())
    yield Finding(
        "rank-desync", "error",
        f"rank {rank} reduced gradients in {ends[rank]} passes, rank {ahead.rank} in more: in pass {index} it waits "
        f"for a rank that is not there. {_end_of(trace, rank)}",
        "give each rank as many batches (DistributedSampler, drop_last), or run the loop under model.join()",
        (), ahead.call, index, ranks=(ahead.rank, *behind),
    )  # fmt: skip


def _is_joined(passes: dict[int, dict[int, BackwardPass]]) -> bool:
    """Tell whether ranks may come to their end earlier than others, as those under ``join()`` may."""
    return any(fact.kind == "joined" for graphs in passes.values() for each in graphs.values() for fact in each.facts)


def _end_of(trace: Trace, rank: int) -> str:
    errors = trace.errors or ((trace.error,) if trace.error is not None else ())
    error = next((error for error in errors if error.rank == rank), None)
    if error is not None:
        at = f" ({position(error.source)})" if error.source is not None else ""
        return f"Rank {rank} had ended with {error.type}{at}"
    if any(fact.kind == UNFINISHED and fact.rank == rank for fact in trace.facts):
        return f"Rank {rank} was killed"
    return f"Rank {rank} had come to the end of its script"


class _Time(NamedTuple):
    """Seconds of one rank's passes: in all, waiting for others, and in nodes."""

    total: float
    waiting: float
    nodes: float


@check("straggler", merged=True, thresholds={"waiting": 0.2}, uses=("waiting",))
def straggler(trace: Trace, thresholds: Thresholds) -> Iterator[Finding]:
    """A rank that the others wait for, pass by pass."""
    passes = [graphs for graphs in reducing_passes(trace).values() if len(graphs) == len(ranks_of(trace)) > 1][_WARM:]
    if len(passes) < _FEWEST:
        return
    times = {rank: _time([graphs[rank] for graphs in passes]) for rank in passes[0]}
    late = min(times, key=lambda rank: times[rank].waiting)
    others = [time for rank, time in times.items() if rank != late]
    waiting = median(time.waiting / time.total for time in others if time.total)
    last = Counter(min(graphs, key=lambda rank: graphs[rank].waiting or 0.0) for graphs in passes)[late]
    if waiting < thresholds.waiting or times[late].waiting > median(time.waiting for time in others) / 2:
        return
    if last < _MOSTLY * len(passes):  # now this one, now that one: no rank is the slow one
        return
    yield Finding(
        "straggler", "info",
        f"the other ranks wait for rank {late}: {waiting:.0%} of their backward's time, in {last} of {len(passes)} "
        f"passes. {_why(times[late], others)}",
        "compare what that rank does before its backward (data loading, logging, longer inputs), and its device",
        (), passes[0][late].call, passes[0][late].index, len(passes), ranks=(late, *sorted({*times} - {late})),
    )  # fmt: skip


def _why(late: _Time, others: list[_Time]) -> str:
    nodes = median(time.nodes for time in others)
    if late.nodes - nodes > median(time.waiting for time in others) / 2 and nodes:
        return f"Its backward nodes take {number(late.nodes / nodes)} times as long"
    return "Its backward nodes are not what takes so long: it begins later"


def _time(graphs: list[BackwardPass]) -> _Time:
    nodes = sum(node.seconds or 0.0 for graph in graphs for node in graph.nodes)
    return _Time(sum(g.seconds or 0.0 for g in graphs), sum(g.waiting or 0.0 for g in graphs), nodes)
