"""Parameters kept equal by the script's own ``all_reduce`` of gradients, without a wrapper such as DDP."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.ranks.meetings import is_partial
from gradtrace.processes.merging import ranks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import BackwardPass, Node, TensorStats, Trace

__all__ = ["Parted", "parted"]


class Parted(NamedTuple):
    """Step at which equal parameters diverged: the pass of each rank, and the leaves of each by name."""

    passes: dict[int, BackwardPass]
    leaves: dict[int, dict[str, Node]]


def parted(trace: Trace, agree: Callable[[TensorStats, TensorStats], bool]) -> Parted | None:
    """Find the first step at which parameters differ between ranks that had kept them alike until then.

    That they had is known where they were alike before and after a step that changed them, though the ranks' own
    gradients differed: else they may be trainings that begin alike, each going its own way.
    """
    if trace.world is None or trace.world.restarts or is_partial(trace):
        return None
    ranks = ranks_of(trace)
    steps = [step for step in _by_step(trace) if len(step.passes) == len(ranks) > 1]
    kept: set[str] = set()
    for before, after in pairwise(steps):
        both = _common(before) & _common(after)
        odd = {name for name in kept & both if not _alike(after, name, agree)}
        if odd:
            leaves = {rank: {name: own[name] for name in sorted(odd)} for rank, own in after.leaves.items()}
            return Parted(after.passes, leaves)
        kept |= {name for name in both - kept if _is_kept(before, after, name, agree)}
    return None


def _by_step(trace: Trace) -> list[Parted]:
    """Return the first pass of each rank after each step, with its leaves that are not sharded."""
    found: dict[int, Parted] = {}
    for graph in trace.passes:
        leaves = {leaf.name: leaf for leaf in graph.nodes if leaf.kind == "leaf" and leaf.name and _is_own(leaf)}
        if graph.step is not None and graph.kind == "backward" and leaves:
            step = found.setdefault(graph.step, Parted({}, {}))
            if step.passes.setdefault(graph.rank, graph) is graph:
                step.leaves[graph.rank] = leaves
    return [found[step] for step in sorted(found)]


def _is_own(leaf: Node) -> bool:
    value, grad = (*leaf.values, None)[0], (*leaf.grads, None)[0]
    return leaf.reduced is None and value is not None and grad is not None and not value.note


def _common(step: Parted) -> set[str]:
    return set.intersection(*(set(own) for own in step.leaves.values()))


def _values(step: Parted, name: str) -> list[TensorStats]:
    return [stats for own in step.leaves.values() if (stats := own[name].values[0]) is not None]


def _alike(step: Parted, name: str, agree: Callable[[TensorStats, TensorStats], bool]) -> bool:
    first, *others = _values(step, name)
    return all(agree(first, other) for other in others)


def _is_kept(before: Parted, after: Parted, name: str, agree: Callable[[TensorStats, TensorStats], bool]) -> bool:
    first, *others = [grad for own in before.leaves.values() if (grad := own[name].grads[0]) is not None]
    differ = any(not agree(first, other) for other in others)
    changed = not agree(_values(before, name)[0], _values(after, name)[0])
    return differ and changed and _alike(before, name, agree) and _alike(after, name, agree)
