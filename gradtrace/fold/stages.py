"""Stages of folding, one after the other: as little is folded as the number of boxes asks for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.fold.boxes import Opening, View
from gradtrace.fold.chains import parts_with_chains
from gradtrace.fold.groups import Calls, Part, by_call, chunked, common_call, deepest, is_open
from gradtrace.fold.repetition.repeats import FEWEST, Run, runs_of
from gradtrace.fold.tangle import is_tangled

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from gradtrace.fold.line import Line

__all__ = ["Plan", "Staged", "Stages"]

MOST_STRETCHES = 60  # boxes, where neither repetitions nor modules are left to fold
BESIDE = Opening("parameters in the boxes that use them", "--full")
VIEWS = Opening("chains of views and casts", "--full")


class Plan(Struct, frozen=True):
    """Plan of a fold: runs, modules at a depth (0: none), and the calls of those that are shown all the same."""

    runs: tuple[Run, ...] = ()
    depth: int = 0
    shown: frozenset[int] = frozenset()


class Staged(NamedTuple):
    """Result of the stages: content of the boxes, what was folded for it, and the plan, where samples may be opened."""

    parts: list[Part]
    openings: tuple[Opening, ...]
    plan: Plan | None = None


class Stages:
    """The stages of folding a pass, until what is left fits."""

    def __init__(self, line: Line, view: View, fits: Callable[[Sequence[Part]], bool] | None = None) -> None:
        self.line, self._view, self._fits = line, view, fits
        self._fixed = frozenset(
            at for at, node in enumerate(line.nodes) if view.open and is_open(node.module, view.open)
        )
        self.calls = Calls(line.graph, view.open)
        self.measures = fits is not None  # which takes a while

    @property
    def most(self) -> int:
        """The boxes that there may be."""
        return self._view.max_nodes or 150

    def fits(self, parts: Sequence[Part]) -> bool:
        """Tell whether there are no more parts than boxes, or whatever else was to be asked."""
        return self._fits(parts) if self._fits else len(parts) <= self.most and not is_tangled(self.line, parts)

    @cached_property
    def runs(self) -> list[Run]:
        """The repetitions."""
        return runs_of(self.line, self._fixed)

    @cached_property
    def repetitions(self) -> tuple[Run, ...]:
        """The repetitions that are always folded: of three segments and more, each of which leads to the next."""
        return tuple(run for run in self.runs if run.count >= FEWEST and self._is_chain(run))

    def _is_chain(self, run: Run) -> bool:
        """Tell whether each segment leads to the next; query, key and value of an attention stand side by side."""
        first, second = range(run.start, run.start + run.width), range(run.start + run.width, run.end)
        return any(target in second[: run.width] for at in first for target, _ in self.line.onward[at])

    def levels(self) -> Iterator[Staged]:
        """Yield what the boxes will hold with ever more folded."""
        often, all_runs = Plan(self.repetitions), Plan(tuple(self.runs))
        yield self._level(self._units(often.runs, chains=False), (BESIDE,), often)
        yield self._level(self.assembled(often), (BESIDE, VIEWS), often)
        if len(all_runs.runs) > len(often.runs):
            yield self._level(self.assembled(all_runs), (BESIDE, VIEWS), all_runs)
        before = 0
        for depth in range(deepest(self.calls, self.line.graph), 0, -1):
            plan = replace(all_runs, depth=depth)
            parts = self.assembled(plan)
            if len(parts) != before:
                yield self._level(parts, (BESIDE, VIEWS), plan)
            before = len(parts)
        parts = self.assembled(replace(all_runs, depth=1))
        most = min(MOST_STRETCHES, len(parts) - 1)
        stretches = Opening("stretches without a module", f"--max-nodes {2 * MOST_STRETCHES}")
        while most > 1:
            said = (BESIDE, VIEWS, *self._said(all_runs, parts), stretches)
            yield Staged(chunked(parts, most, self.calls), said)
            most = most * 2 // 3

    def _level(self, parts: list[Part], openings: tuple[Opening, ...], plan: Plan) -> Staged:
        return Staged(parts, (*openings, *self._said(plan, parts)), plan)

    def parts(self) -> Staged:
        """Return what the boxes will hold, and what was folded for it."""
        line, view = self.line, self._view
        if view.depth is not None:
            return Staged(self.assembled(Plan((), view.depth)), (BESIDE, VIEWS, self._modules(view.depth)))
        if len(line.nodes) <= self.most:
            return Staged([self._alone(at) for at in range(len(line.nodes))], (BESIDE,))
        parts = self.assembled(Plan())
        if self.fits(parts):
            return Staged(self._with_fewest_chains(parts), (BESIDE, VIEWS))
        plan = self.plan()
        parts = self.assembled(plan)
        openings = [BESIDE, VIEWS, *self._said(plan, parts)]
        if self.fits(parts):
            return Staged(parts, tuple(openings), plan)
        openings.append(Opening("stretches without a module", f"--max-nodes {2 * self.most}"))
        return Staged(chunked(parts, self.most, self.calls), tuple(openings))

    def plan(self) -> Plan:
        """Return what to fold beyond parameters and chains: runs, and modules where these are not enough."""
        plan = self._with_runs()
        return plan if self.fits(self.assembled(plan)) else self._grouped(plan)

    def assembled(self, plan: Plan) -> list[Part]:
        """Return the parts that a plan makes."""
        parts = self._units(plan.runs)
        return by_call(parts, self.calls, plan.depth, plan.shown) if plan.depth else parts

    def kind(self, part: Part) -> Hashable:
        """Return what folds that look alike inside have in common; None where there is nothing to see inside."""
        if part.kind == "module" and part.call is not None:
            return self.calls.key(part.call)
        segment = part.places[-(len(part.places) // part.count) :]
        call = common_call(self.calls, (self.line.nodes[at].call for at in segment))
        if call is not None and call != part.call:
            return self.calls.key(call)
        return tuple(self.line.nodes[at].op for at in segment) if len(segment) > 1 else None

    def _with_fewest_chains(self, parts: list[Part]) -> list[Part]:
        """Return the parts with no more chains folded than need be, the longest ones."""
        room, opened = self.most - len(parts), set[Part]()
        for part in sorted((part for part in parts if part.kind == "chain"), key=lambda part: len(part.places)):
            if len(part.places) - 1 <= room:
                room -= len(part.places) - 1
                opened.add(part)
        kept: list[Part] = []
        for part in parts:
            kept += [self._alone(at) for at in part.places] if part in opened else [part]
        return kept

    def _alone(self, at: int) -> Part:
        return Part("open" if at in self._fixed else "node", (at,), call=self.line.nodes[at].call)

    def _units(self, runs: Sequence[Run], *, chains: bool = True) -> list[Part]:
        """Return runs, chains outside of them, and what is left, in the order of the line."""
        line = self.line
        taken = bytearray(len(line.nodes))
        for run in runs:
            taken[run.start : run.end] = b"\1" * (run.end - run.start)
        free = [at for at in range(len(line.nodes)) if not taken[at]]
        parts = parts_with_chains(line, free, self._fixed) if chains else {at: self._alone(at) for at in free}
        for at in self._fixed:
            parts[at] = self._alone(at)
        for run in runs:
            parts[run.start] = self._run(run)
        return [parts[at] for at in sorted(parts)]

    def _with_runs(self) -> Plan:
        """Return the plan with as many runs, those that save most first, as are needed."""
        runs = self.runs
        low, high = 0, len(runs)
        while low < high:
            middle = (low + high) // 2
            fits = self.fits(self._units(runs[:middle]))
            low, high = (low, middle) if fits else (middle + 1, high)
        return Plan(tuple(runs[:low]))

    def _run(self, run: Run) -> Part:
        places = range(run.start, run.end)
        nodes = self.line.nodes
        shown = [places[: run.width], places[-run.width :]]
        calls = [common_call(self.calls, (nodes[at].call for at in segment)) for segment in shown]
        around = common_call(self.calls, calls) if calls[0] != calls[1] else calls[0]
        paths = [self.line.graph.calls[call].path if call is not None else "" for call in calls]
        kind = self.line.graph.calls[calls[0]].type if calls[0] is not None and calls[0] != around else ""
        name = paths[0] if paths[0] == paths[1] else _range(paths[1], paths[0])
        return Part("run", tuple(places), run.count, around, f"{name}\n{kind}" if kind else "")

    def _grouped(self, plan: Plan) -> Plan:
        """Return the plan with modules folded at the deepest level that fits, or at the first."""
        parts, most = self._units(plan.runs), deepest(self.calls, self.line.graph)
        for depth in range(most, 1, -1):
            if self.fits(by_call(parts, self.calls, depth)):
                return replace(plan, depth=depth)
        return replace(plan, depth=min(most, 1))

    def _said(self, plan: Plan, parts: Sequence[Part]) -> list[Opening]:
        """Return what a plan folds."""
        openings = [self._modules(plan.depth)] if plan.depth else []
        if not plan.runs:
            return openings
        runs = [part for part in parts if part.kind == "run"] or [self._run(plan.runs[0])]
        first = max(runs, key=lambda part: len(part.places))
        path = next((node.module for at in first.places if (node := self.line.nodes[at]).module), "")
        option = f"--open {path}" if path else f"--max-nodes {len(self.line.nodes)}"
        count = len(plan.runs)
        return [Opening(f"{count} repeated stretch{'es' * (count > 1)}", option), *openings]

    def _modules(self, depth: int) -> Opening:
        return Opening(f"modules at depth {depth}", f"--open MODULE or --depth {depth + 1}")


def _range(first: str, last: str) -> str:
    """Return two paths as one: what they share once.

    >>> _range("model.h.0", "model.h.11"), _range("encoder", "decoder")
    ('model.h.0 … h.11', 'encoder … decoder')
    """
    one, two = first.split("."), last.split(".")
    shared = 0
    while shared < min(len(one), len(two)) - 1 and one[shared] == two[shared]:
        shared += 1
    return f"{first} … {'.'.join(two[max(0, shared - 1) :])}" if shared else f"{first} … {last}"
