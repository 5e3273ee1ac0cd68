"""From a pass to boxes: as little is folded as the number of boxes asks for."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.fold.boxes import Folded, Opening, View
from gradtrace.fold.build import as_recorded, built
from gradtrace.fold.chains import parts_with_chains
from gradtrace.fold.groups import Calls, Part, by_call, chunked, common_call, deepest, is_open
from gradtrace.fold.line import line_of
from gradtrace.fold.paths import between, focused
from gradtrace.fold.ranks import ranks_of
from gradtrace.fold.repeats import runs_of
from gradtrace.graph import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.fold.line import Line
    from gradtrace.fold.repeats import Run
    from gradtrace.model import BackwardPass, Finding

__all__ = ["fold"]

SLOW = 500  # ranks that all edges span; above, leaves go into their users' boxes, or a layout takes minutes
TANGLED = 2000  # ranks that all lines between boxes span; a layout takes a minute above 5,000
SMALL, USUAL = 10, 150  # boxes; who asks for more wants them, tangled or not
BESIDE = Opening("parameters in the boxes that use them", "--full")
VIEWS = Opening("chains of views and casts", "--full")


def fold(graph: BackwardPass, view: View = View(), findings: Sequence[Finding] = ()) -> Folded:  # noqa: B008 - frozen
    """Return a pass in at most ``view.max_nodes`` boxes, folded as little as that needs."""
    with _uncollected():
        return _fold(graph, view, findings)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector off a block that makes millions of tuples and no cycles: it takes 40 % of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _fold(graph: BackwardPass, view: View, findings: Sequence[Finding]) -> Folded:
    graph, cut = _asked(graph, view)
    if view.full or (view.depth is None and len(graph.nodes) <= view.max_nodes and span(graph) <= SLOW):
        return as_recorded(graph, findings, cut)
    line, most = line_of(graph), view.max_nodes
    while True:
        parts, openings = _Stages(line, replace(view, max_nodes=most)).parts()
        folded = built(line, parts, (*cut, *openings), findings)
        if not _is_tangled(folded) or view.depth is not None or not SMALL <= most <= USUAL:
            return folded
        most = min(most, len(parts)) * 2 // 3


def _is_tangled(folded: Folded) -> bool:
    """Tell whether so many lines pass so many boxes that neither a layout nor a reader can follow them."""
    ranks = ranks_of(folded)
    return sum(ranks[link.target] - ranks[link.source] for link in folded.links) > TANGLED


def _asked(graph: BackwardPass, view: View) -> tuple[BackwardPass, tuple[Opening, ...]]:
    """Return the part of the pass that is asked for, and a word on what that leaves out."""
    if view.focus:
        part, what = focused(graph, view.focus), f"only the ways through {view.focus}"
    elif view.between:
        part, what = between(graph, *view.between), f"only the ways between {view.between[0]} and {view.between[1]}"
    else:
        return graph, ()
    return part, (Opening(f"{what}, {len(part.nodes):,} of {len(graph.nodes):,} nodes", ""),)


class _Stages:
    """One stage after the other, until what is left fits."""

    def __init__(self, line: Line, view: View) -> None:
        self._line, self._view = line, view
        self._fixed = frozenset(
            at for at, node in enumerate(line.nodes) if view.open and is_open(node.module, view.open)
        )
        self._calls = Calls(line.graph, view.open)

    def parts(self) -> tuple[list[Part], tuple[Opening, ...]]:
        line, view = self._line, self._view
        if view.depth is not None:
            parts = by_call(self._units([]), self._calls, view.depth) if view.depth else self._units([])
            return parts, (BESIDE, VIEWS, self._modules(view.depth))
        if len(line.nodes) <= view.max_nodes:
            return [self._alone(at) for at in range(len(line.nodes))], (BESIDE,)
        parts, openings = self._units([]), [BESIDE, VIEWS]
        if len(parts) > view.max_nodes:
            parts, runs = self._with_runs(parts)
            openings += [self._repeats(runs, parts)] if runs else []
        if len(parts) > view.max_nodes:
            parts, depth = self._grouped(parts)
            openings += [self._modules(depth)] if depth else []
        if len(parts) > view.max_nodes:
            parts = chunked(parts, view.max_nodes, self._calls)
            openings.append(Opening("stretches without a module", f"--max-nodes {2 * view.max_nodes}"))
        return parts, tuple(openings)

    def _alone(self, at: int) -> Part:
        return Part("open" if at in self._fixed else "node", (at,), call=self._line.nodes[at].call)

    def _units(self, runs: list[Run]) -> list[Part]:
        """Return runs, chains outside of them, and what is left, in the order of the line."""
        line = self._line
        taken = bytearray(len(line.nodes))
        for run in runs:
            taken[run.start : run.end] = b"\1" * (run.end - run.start)
        free = [at for at in range(len(line.nodes)) if not taken[at]]
        parts = parts_with_chains(line, free, self._fixed)
        for at in self._fixed:
            parts[at] = self._alone(at)
        for run in runs:
            parts[run.start] = self._run(run)
        return [parts[at] for at in sorted(parts)]

    def _with_runs(self, parts: list[Part]) -> tuple[list[Part], int]:
        """Return the parts with as many runs, those that save most first, as are needed, and their number."""
        runs = runs_of(self._line, self._fixed)
        tried = {0: parts}
        low, high = 0, len(runs)
        while low < high:
            middle = (low + high) // 2
            tried[middle] = self._units(runs[:middle])
            low, high = (low, middle) if len(tried[middle]) <= self._view.max_nodes else (middle + 1, high)
        return tried.get(low) or self._units(runs[:low]), low

    def _run(self, run: Run) -> Part:
        places = range(run.start, run.end)
        nodes = self._line.nodes
        shown = [places[: run.width], places[-run.width :]]
        calls = [common_call(self._calls, (nodes[at].call for at in segment)) for segment in shown]
        around = common_call(self._calls, calls) if calls[0] != calls[1] else calls[0]
        paths = [self._line.graph.calls[call].path if call is not None else "" for call in calls]
        kind = self._line.graph.calls[calls[0]].type if calls[0] is not None and calls[0] != around else ""
        name = paths[0] if paths[0] == paths[1] else _range(paths[1], paths[0])
        return Part("run", tuple(places), run.count, around, f"{name}\n{kind}" if kind else "")

    def _grouped(self, parts: list[Part]) -> tuple[list[Part], int]:
        """Return the parts grouped by module calls at the deepest level that fits, or at the first."""
        most = deepest(self._line.graph)
        if not most:
            return parts, 0
        for depth in range(most, 0, -1):
            grouped = by_call(parts, self._calls, depth)
            if len(grouped) <= self._view.max_nodes:
                return grouped, depth
        return grouped, 1

    def _repeats(self, runs: int, parts: list[Part]) -> Opening:
        first = max((part for part in parts if part.kind == "run"), key=lambda part: len(part.places))
        path = next((node.module for at in first.places if (node := self._line.nodes[at]).module), "")
        option = f"--open {path}" if path else f"--max-nodes {len(self._line.nodes)}"
        return Opening(f"{runs} repeated stretch{'es' * (runs > 1)}", option)

    def _modules(self, depth: int) -> Opening:
        return Opening(f"modules at depth {depth}", f"--open MODULE or --depth {depth + 1}")


def _range(first: str, last: str) -> str:
    """Return two paths as one: what they share once."""
    one, two = first.split("."), last.split(".")
    shared = 0
    while shared < min(len(one), len(two)) - 1 and one[shared] == two[shared]:
        shared += 1
    return f"{first} … {'.'.join(two[max(0, shared - 1) :])}" if shared else f"{first} … {last}"
