"""Desync of processes: some wait for one that has ended, or that calls another collective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.ranks.meetings import meetings
from gradtrace.checks.ranks.rank_differences import ranks_named
from gradtrace.model import Finding
from gradtrace.processes.journal import UNFINISHED
from gradtrace.processes.merging import ranks_of
from gradtrace.wording.nodes import first_few, position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.checks.ranks.meetings import Group, Meeting
    from gradtrace.model import BackwardPass, Trace

__all__ = ["rank_desync"]

# Nodes whose backward calls a collective: those of torch.distributed.nn, SyncBatchNorm, and of functional collectives.
_COLLECTIVES = frozenset({
    "_AllReduceBackward", "_AllGatherBackward", "_AllGatherBaseBackward", "_ReduceScatterBackward", "_ReduceBackward",
    "_BroadcastBackward", "_GatherBackward", "_ScatterBackward", "_AlltoAllBackward", "_AlltoAllSingleBackward",
    "SyncBatchNormBackward", "AllToAllSingle", "ReduceScatterTensor", "AllGatherIntoTensor", "AllReduce",
})  # fmt: skip
Passes = dict[int, "BackwardPass"]


@check("rank-desync", merged=True)
def rank_desync(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Ranks that made fewer passes than others, or passes with other graphs: the next collective waits for them."""
    groups: dict[Group, list[Meeting]] = {}
    for meeting in meetings(trace) if trace.world is not None else ():
        groups.setdefault(meeting.group, []).append(meeting)
    everybody = ranks_of(trace)
    if trace.world is not None and len(everybody) > 1:
        groups.setdefault(everybody, [])  # ranks may have stopped in their first pass
    for group, met in groups.items():
        found = _other_collectives(met) or _stopped(trace, group, met)
        if found is not None:
            yield found
            return


def _other_collectives(met: list[Meeting]) -> Finding | None:
    """Find the first passes whose backward called other collectives on one rank than on another."""
    return next((found for meeting in met if (found := _differing(meeting.passes)) is not None), None)


def _differing(passes: Passes) -> Finding | None:
    calls = {rank: _collectives(graph) for rank, graph in passes.items()}
    first = min(calls, default=0)
    other = next((rank for rank in sorted(calls) if calls[rank] != calls[first]), None)
    if other is None:
        return None
    told = " and ".join(f"rank {rank} {first_few(calls[rank], 4) or 'none'}" for rank in (first, other))
    return _of_graphs(passes, (first, other), f"call other collectives: {told}. They wait for each other, or take what "
                      "was sent for something else")  # fmt: skip


def _collectives(graph: BackwardPass) -> list[str]:
    ran = [node for node in graph.nodes if node.op in _COLLECTIVES]
    return [node.op.removeprefix("_") for node in sorted(ran, key=lambda node: (node.order is None, node.order))]


def _of_graphs(passes: Passes, ranks: tuple[int, int], what: str) -> Finding:
    graph = passes[ranks[0]]
    return Finding(
        "rank-desync", "error", f"the graphs of pass {graph.index} {what}",
        "find the branch that one rank took and another one did not; DistributedDataParallel allows for parameters "
        "that a rank does not use by find_unused_parameters=True",
        (), graph.call, graph.index, ranks=ranks,
    )  # fmt: skip


def _stopped(trace: Trace, group: Group, met: list[Meeting]) -> Finding | None:
    """Return the finding of ranks that diverged after the last collective of all of them."""
    known = {*group} & {*ranks_of(trace)}
    whole = [meeting for meeting in met if {*meeting.passes} >= known]
    after = {rank: whole[-1].passes[rank].index if whole else 0 for rank in known}
    following: Passes = {}
    for graph in trace.passes:
        if graph.kind == "backward" and graph.index > after.get(graph.rank, graph.index):
            following.setdefault(graph.rank, graph)
    rest = [meeting for meeting in met if not whole or meeting.number > whole[-1].number]
    if any(fact.kind == "joined" for meeting in met for graph in meeting.passes.values() for fact in graph.facts):
        return None  # under join(), ranks may end earlier than others
    if rest or any(graph.error is not None for graph in following.values()):
        differ = _differing(following) or _other_leaves(following)
        if differ is not None:
            return differ
    return _behind(trace, known, met, rest) if rest and whole else None


def _other_leaves(passes: Passes) -> Finding | None:
    names = {rank: {leaf.name for leaf in g.nodes if leaf.kind == "leaf" and leaf.name} for rank, g in passes.items()}
    for rank in sorted(names):
        for other in sorted(names):
            only = sorted(names[rank] - names[other])
            if only:
                what = f"differ: rank {rank} used {first_few(only)} and waits for rank {other}, which did not"
                return _of_graphs(passes, (rank, other), what)
    return None


def _behind(trace: Trace, known: set[int], met: list[Meeting], rest: list[Meeting]) -> Finding | None:
    behind = sorted(known - {*met[-1].passes})
    if not behind:
        return None
    counts = {rank: sum(rank in meeting.passes for meeting in met) for rank in behind}
    rank = min(behind, key=counts.__getitem__)
    ahead = next(graph for meeting in rest if rank not in meeting.passes for graph in meeting.passes.values())
    return Finding(
        "rank-desync", "error",
        f"{ranks_named([rank])} reduced gradients in {counts[rank]} passes, rank {ahead.rank} in more: in pass "
        f"{ahead.index} it waits for a rank that is not there. {_end_of(trace, rank)}",
        "give each rank as many batches (DistributedSampler, drop_last), or run the loop under model.join()",
        (), ahead.call, ahead.index, ranks=(ahead.rank, *behind),
    )  # fmt: skip


def _end_of(trace: Trace, rank: int) -> str:
    errors = trace.errors or ((trace.error,) if trace.error is not None else ())
    error = next((error for error in errors if error.rank == rank), None)
    if error is not None:
        at = f" ({position(error.source)})" if error.source is not None else ""
        return f"Rank {rank} had ended with {error.type}{at}"
    if any(fact.kind == UNFINISHED and fact.rank == rank for fact in trace.facts):
        return f"Rank {rank} was killed"
    return f"Rank {rank} had come to the end of its script"
