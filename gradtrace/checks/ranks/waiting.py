"""Stragglers: processes that others wait for."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.ranks.meetings import meetings
from gradtrace.model import Finding
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Trace

__all__ = ["straggler"]

_WARM = 2  # first passes, not timed: they set up buckets and connections
_FEWEST = 3  # passes that are timed, at least
_MOSTLY = 0.8  # share of passes in which the same rank has to be last


class _Time(NamedTuple):
    """Seconds of one rank's passes: in all, waiting for others, and in nodes."""

    total: float
    waiting: float
    nodes: float


@check("straggler", merged=True, thresholds={"waiting": 0.2}, uses=("waiting",))
def straggler(trace: Trace, thresholds: Thresholds) -> Iterator[Finding]:
    """A rank that the others wait for, pass by pass."""
    groups: dict[tuple[int, ...], list[dict[int, BackwardPass]]] = {}
    for meeting in meetings(trace):
        if len(meeting.passes) == len(meeting.group):
            groups.setdefault(meeting.group, []).append(meeting.passes)
    found = [_late(passes[_WARM:], thresholds) for passes in groups.values()]
    yield from (finding for finding in found if finding is not None)


def _late(passes: list[dict[int, BackwardPass]], thresholds: Thresholds) -> Finding | None:
    if len(passes) < _FEWEST:
        return None
    times = {rank: _time([graphs[rank] for graphs in passes]) for rank in passes[0]}
    late = min(times, key=lambda rank: times[rank].waiting)
    others = [time for rank, time in times.items() if rank != late]
    waiting = median(time.waiting / time.total for time in others if time.total)
    last = Counter(min(graphs, key=lambda rank: graphs[rank].waiting or 0.0) for graphs in passes)[late]
    if waiting < thresholds.waiting or times[late].waiting > median(time.waiting for time in others) / 2:
        return None
    if last < _MOSTLY * len(passes):  # the last rank varies: none is slow
        return None
    return Finding(
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
