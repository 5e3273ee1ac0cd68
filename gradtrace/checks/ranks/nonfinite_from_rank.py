"""NaN and infinity that came from another process: finite before the gradients were reduced, and not afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import CHECKS, Thresholds, check
from gradtrace.checks.ranks.meetings import meetings
from gradtrace.checks.ranks.rank_differences import ranks_named
from gradtrace.checks.stats_queries import is_broken
from gradtrace.model import Finding
from gradtrace.wording.nodes import first_few, nonfinite_word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Node, Trace

__all__ = ["nonfinite_from_rank"]

TOGETHER = "record all ranks, and check their files together: gradtrace check run.rank*.json.gz"


def _spoilt(graph: BackwardPass) -> list[Node]:
    """Return the leaves with a finite gradient of their own and a reduced one that is not.

    What an earlier pass had left in ``.grad`` may be this process's own.
    """
    held = {node for fact in graph.facts if fact.kind == "held" for node in fact.nodes}
    leaves = [leaf for leaf in graph.nodes if is_broken(leaf.reduced) and leaf.id not in held]
    return [leaf for leaf in leaves if leaf.grads and leaf.grads[0] is not None and not is_broken(leaf.grads[0])]


def _is_scaled(graph: BackwardPass) -> bool:
    return any(".scale(" in node.source.text for node in graph.nodes[:4] if node.source)


def _where_from(trace: Trace, thresholds: Thresholds) -> Iterator[Finding]:
    """Yield the ranks that broke the gradients of others in the first such pass, and the line of the cause."""
    for meeting in meetings(trace):
        passes = [meeting.passes[rank] for rank in sorted(meeting.passes)]
        victims = [(graph, leaves) for graph in passes for leaves in [_spoilt(graph)] if leaves]
        if victims:
            first, leaves = victims[0]
            guilty = [graph for graph in passes if _is_source(graph, {leaf.name for leaf in leaves})]
            if guilty:
                yield _from(guilty, [graph.rank for graph, _ in victims], leaves, thresholds)
            else:
                yield from nonfinite_from_rank(first, thresholds)
            return
    alone = next((graph for graph in trace.passes if _spoilt(graph)), None)
    if alone is not None:
        yield from nonfinite_from_rank(alone, thresholds)


def _is_source(graph: BackwardPass, names: set[str]) -> bool:
    own = (leaf.grads[0] for leaf in graph.nodes if leaf.kind == "leaf" and leaf.name in names and leaf.grads)
    return any(map(is_broken, own))


def _from(guilty: list[BackwardPass], victims: list[int], leaves: list[Node], thresholds: Thresholds) -> Finding:
    origin = guilty[0]
    born = [f for name in ("nonfinite-forward", "nonfinite-origin") for f in CHECKS[name].function(origin, thresholds)]
    cause = born[0] if born else None
    told = f" There, {cause.message}" if cause is not None else ""
    word, names = nonfinite_word(leaves[0].reduced), first_few(leaf.name or "a leaf" for leaf in leaves)
    return Finding(
        "nonfinite-from-rank",
        cause.severity if cause is not None else "error",
        f"{word} in the gradients of {names} came from "
        f"{ranks_named([graph.rank for graph in guilty])}: on {ranks_named(victims)} they were finite until they were "
        f"reduced.{told}",
        cause.hint if cause is not None else "look at that rank's pass: gradtrace render --rank",
        cause.nodes if cause is not None else (),
        cause.source if cause is not None else origin.call,
        origin.index,
        ranks=(origin.rank, *sorted({*victims, *(graph.rank for graph in guilty)} - {origin.rank})),
    )


@check("nonfinite-from-rank", compare=_where_from)
def nonfinite_from_rank(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """Gradients that were finite on this rank, and are not after the reduction: another rank gave NaN or infinity."""
    leaves = _spoilt(graph)
    if leaves:
        names = first_few(leaf.name or "a leaf" for leaf in leaves)
        yield Finding(
            "nonfinite-from-rank", "info" if _is_scaled(graph) else "error",
            f"{names}: finite on this rank, and {nonfinite_word(leaves[0].reduced)} after the processes had reduced "
            "it: another rank gave it", TOGETHER, tuple(leaf.id for leaf in leaves), graph.call, graph.index,
            ranks=(graph.rank,),
        )  # fmt: skip
