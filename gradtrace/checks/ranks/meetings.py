"""Meetings of ranks: the passes of different ranks that reduced their gradients together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.processes.merging import ranks_of

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Fact, Node, Trace

__all__ = ["Meeting", "groups_of", "is_partial", "meetings"]

Group = tuple[int, ...]  # the ranks of a process group
Leaves = dict[str, "Node"]


class Meeting(NamedTuple):
    """Passes of a group's ranks in which the same gradients were reduced, and the leaves of each, by name."""

    group: Group
    number: int  # from 1
    passes: dict[int, BackwardPass]
    leaves: dict[int, Leaves]

    def replicas(self) -> dict[int, Leaves]:
        """Return the leaves that are equal on all ranks: those that are not sharded."""
        return {rank: {n: x for n, x in own.items() if _is_whole(x)} for rank, own in self.leaves.items()}


def _is_whole(leaf: Node) -> bool:
    return leaf.reduced is not None and not leaf.reduced.note


def groups_of(graph: BackwardPass, everybody: Group) -> dict[Group, Leaves]:
    """Return the leaves reduced in a pass, by the ranks that took part."""
    among = {node: _known(fact, everybody) for fact in graph.facts if fact.kind == "group" for node in fact.nodes}
    found: dict[Group, Leaves] = {}
    for leaf in graph.nodes:
        if leaf.reduced is not None:
            found.setdefault(among.get(leaf.id, everybody), {})[leaf.name or leaf.id] = leaf
    return found


def _known(fact: Fact, everybody: Group) -> Group:
    """Return the recorded ranks of a group."""
    ranks = fact.data.get("ranks")
    return tuple(rank for rank in everybody if isinstance(ranks, list) and rank in ranks)


def is_partial(trace: Trace) -> bool:
    """Tell whether some passes of a rank were not kept."""
    indices: dict[int, set[int]] = {}
    for graph in trace.passes:
        indices.setdefault(graph.rank, set()).add(graph.index)
    return any(len(kept) < max(kept) for kept in indices.values())


def meetings(trace: Trace) -> list[Meeting]:
    """Return where ranks reduced gradients together, in order; only of one rank where others were not there.

    A rank may make passes of its own in between, and then has other numbers: the first reduction of one is that of
    another one all the same, unless there are passes that are not known.
    """
    everybody = ranks_of(trace)
    reducing: dict[Group, dict[int, list[tuple[BackwardPass, Leaves]]]] = {}
    for graph in trace.passes:
        for group, leaves in groups_of(graph, everybody).items():
            reducing.setdefault(group, {}).setdefault(graph.rank, []).append((graph, leaves))
    indices = {(graph.rank, graph.index) for graph in trace.passes}
    return [
        meeting
        for group, ranks in reducing.items()
        if len(group) > 1
        for meeting in _of_group(trace, indices, group, ranks)
    ]


def _of_group(
    trace: Trace,
    indices: set[tuple[int, int]],
    group: Group,
    ranks: dict[int, list[tuple[BackwardPass, Leaves]]],
) -> list[Meeting]:
    at = {(rank, graph.index) for rank, found in ranks.items() for graph, _ in found}
    numbers = {index for _, index in at}
    # One rank reduced in the pass of this number, and another did not.
    is_shifted = any((rank, n) in indices and (rank, n) not in at for rank in group for n in numbers)
    if is_shifted and (is_partial(trace) or (trace.world is not None and trace.world.restarts)):
        return []
    found: dict[int, Meeting] = {}
    for rank, passes in ranks.items():
        for position, (graph, leaves) in enumerate(passes, 1):
            key = position if is_shifted else graph.index
            meeting = found.setdefault(key, Meeting(group, key, {}, {}))
            meeting.passes[rank] = graph
            meeting.leaves[rank] = leaves
    return [found[key] for key in sorted(found)]
