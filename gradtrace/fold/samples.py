"""Samples: one of each kind of fold is shown open, where there are boxes left for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from gradtrace.fold.groups import Part
    from gradtrace.fold.stages import Plan, Stages

__all__ = ["sampled"]

MOST_WORK = 4_000_000  # nodes that are looked at for it, again and again: a second
MOST_TRIES = 24
MOST_FAILED = 2  # tries one after the other that did not fit


def sampled(stages: Stages, plan: Plan, parts: list[Part]) -> list[Part]:
    """Return the parts with one of each kind open, the last of each in backward order, while all fits.

    A person who sees twelve blocks as one box wants to see what a block is. What is chosen depends on the
    graph alone and on no gradient: other numbers don't change the picture.
    """
    tried: set[Hashable] = set()
    failed = 0
    for _ in range(min(MOST_TRIES, MOST_WORK // len(stages.line.nodes))):
        choice = next(_candidates(stages, parts, tried), None)
        if choice is None or (stages.measures and failed == MOST_FAILED):
            break
        tried.add(choice.places[0])
        more = _opened(choice, plan)
        opened = stages.assembled(more)
        failed += 1
        if stages.fits(opened):
            plan, parts, failed = more, opened, 0
    return parts


def _candidates(stages: Stages, parts: Sequence[Part], tried: set[Hashable]) -> Iterator[Part]:
    """Yield the folds of whose kind none is open, those that have not been tried."""
    seen = {stages.calls.key(call) for part in parts for call in _around(stages, part)}
    for part in reversed(parts):
        if part.places[0] not in tried and part.kind in {"run", "module"}:
            kind = stages.kind(part)
            if kind is not None and kind not in seen:
                yield part


def _around(stages: Stages, part: Part) -> Sequence[int]:
    """Return the calls that a part shows to be inside of it, or is inside of."""
    chain = stages.calls.chain(part.call)
    return chain[:-1] if part.kind == "module" else chain


def _opened(part: Part, plan: Plan) -> Plan:
    """Return the plan without the last segment of a run, or with a module shown."""
    if part.kind == "module":
        return replace(plan, shown=plan.shown | {part.call})
    runs = [replace(run, count=run.count - 1) if run.start == part.places[0] else run for run in plan.runs]
    return replace(plan, runs=tuple(run for run in runs if run.count > 1))
