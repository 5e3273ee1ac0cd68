"""Differences between processes that train together: parameters unequal, or unused by some."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.ranks.kept_alike import parted
from gradtrace.checks.ranks.meetings import is_partial, meetings
from gradtrace.model import Finding
from gradtrace.wording.nodes import first_few
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.checks.ranks.kept_alike import Parted
    from gradtrace.checks.ranks.meetings import Meeting
    from gradtrace.model import BackwardPass, TensorStats, Trace

__all__ = ["rank_divergence", "ranks_named", "unused_on_rank"]


BY_HAND = (
    "until then they were alike after each step, though the ranks' own gradients were not: see that each parameter's "
    "gradient is reduced before each step, on all ranks"
)


def ranks_named(ranks: Iterable[int]) -> str:
    """Return ``rank 3``, or ``ranks 0, 3``."""
    listed = sorted(ranks)
    return f"rank{'s' if len(listed) > 1 else ''} {first_few(map(str, listed), 8)}"


class _Odd(NamedTuple):
    """A leaf whose tensors differ between processes: the statistics of each, and the ranks unlike most others."""

    name: str
    held: dict[int, TensorStats]
    ranks: list[int]


@check("rank-divergence", merged=True, thresholds={"divergence": 1e-5}, uses=("divergence",))
def rank_divergence(trace: Trace, thresholds: Thresholds) -> Iterator[Finding]:
    """Parameters, or gradients after the reduction, that differ between ranks that keep them alike."""
    partial = is_partial(trace)
    for meeting in meetings(trace):
        graphs, leaves = meeting.passes, meeting.replicas()
        if partial and len({graph.step for graph in graphs.values()}) > 1:
            continue  # perhaps not the same step: passes of one rank alone may not have been kept
        values = {rank: {n: leaf.values[0] for n, leaf in own.items() if leaf.values} for rank, own in leaves.items()}
        reduced = {rank: {name: leaf.reduced for name, leaf in own.items()} for rank, own in leaves.items()}
        for what, held in (("parameters", values), ("reduced gradients", reduced)):
            odd = list(_odd(held, thresholds.divergence))
            if odd:
                yield _diverged(meeting, odd, f"{what} that all ranks should have alike")
                return
    apart = parted(trace, lambda one, other: _agree(one, other, thresholds.divergence))
    if apart is not None:
        values = {rank: {n: leaf.values[0] for n, leaf in own.items()} for rank, own in apart.leaves.items()}
        found = _diverged(apart, list(_odd(values, thresholds.divergence)), "parameters that the ranks had kept alike")
        yield replace(found, severity="warning", hint=BY_HAND)


def _odd(held: dict[int, dict[str, TensorStats | None]], limit: float) -> Iterator[_Odd]:
    names = dict.fromkeys(name for own in held.values() for name in own)
    for name in names:
        there = {rank: stats for rank, own in held.items() if (stats := own.get(name)) is not None}
        groups: list[list[int]] = []
        for rank, stats in there.items():
            same = next((group for group in groups if _agree(there[group[0]], stats, limit)), None)
            if same is None:
                groups.append([rank])
            else:
                same.append(rank)
        if len(groups) > 1:
            most = max(groups, key=len)
            yield _Odd(name, there, sorted(rank for group in groups if group is not most for rank in group))


def _agree(one: TensorStats, other: TensorStats, limit: float) -> bool:
    if (one.shape, one.nan, one.inf) != (other.shape, other.nan, other.inf):
        return False
    scale = max(abs(number) for stats in (one, other) for number in (stats.min or 0.0, stats.max or 0.0, 1e-30))
    pairs = ((one.norm, other.norm, one.norm), (one.min, other.min, scale), (one.max, other.max, scale))
    return all(a == b or (a is not None and b is not None and abs(a - b) <= limit * abs(s or 1)) for a, b, s in pairs)


def _diverged(meeting: Meeting | Parted, odd: list[_Odd], what: str) -> Finding:
    worst = odd[0]
    rank, other = worst.ranks[0], next(rank for rank in worst.held if rank not in worst.ranks)
    graphs, graph, names = meeting.passes, meeting.passes[rank], {each.name for each in odd}
    sizes = " and ".join(f"{number(worst.held[r].norm)} on rank {r}" for r in sorted((rank, other)))
    return Finding(
        "rank-divergence", "error",
        f"{what} differ in pass {graph.index}, those of {ranks_named(worst.ranks)} "
        f"from the others': {first_few(each.name for each in odd)} (the norm of {worst.name} is {sizes})"
        f"{_steps(graph, graphs[other])}",
        "look for what one rank did alone before that pass: a step that it skipped or took twice (a GradScaler of its "
        "own, no_sync() around the last backward before a step), other learning rates, a load, an update by hand",
        tuple(leaf.id for name, leaf in meeting.leaves[rank].items() if name in names),
        graph.call, graph.index, ranks=(rank, *sorted({*worst.held} - {rank})),
    )  # fmt: skip


def _steps(one: BackwardPass, other: BackwardPass) -> str:
    if one.step == other.step:
        return ""
    return f". Until then rank {one.rank} had taken {one.step} optimizer steps, rank {other.rank} {other.step}"


@check("unused-on-rank", merged=True)
def unused_on_rank(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A parameter that some ranks used in a pass and others did not: its gradient is the mean with their zeros."""
    missing: dict[tuple[str, tuple[int, ...]], list[Meeting]] = {}
    for meeting in meetings(trace):
        replicas = meeting.replicas()
        for name in dict.fromkeys(name for own in replicas.values() for name in own):
            without = tuple(sorted(rank for rank, own in replicas.items() if name not in own))
            if without:
                missing.setdefault((name, without), []).append(meeting)
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for (name, without), at in missing.items():
        groups.setdefault((without, tuple(meeting.number for meeting in at)), []).append(name)
    for (without, numbers), names in groups.items():
        first = missing[names[0], without][0]
        users = sorted({*first.passes} - {*without})
        graph, leaves = first.passes[users[0]], first.leaves[users[0]]
        yield Finding(
            "unused-on-rank", "warning",
            f"{first_few(names)}: used on {ranks_named(users)} and not on {ranks_named(without)}. What is reduced is "
            "the mean with a gradient of zero for each rank that did not use it",
            "if that is meant (experts, branches that depend on the data), scale the gradient by the ranks that used "
            "it; else find the branch that the others did not take",
            tuple(leaf.id for name, leaf in leaves.items() if name in names),
            graph.call, graph.index, len(numbers), ranks=(users[0], *without),
        )  # fmt: skip
