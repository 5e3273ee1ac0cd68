"""Folding of a pass: what is asked for of it, in as many boxes as there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.fold.boxes import Folded, Opening, View
from gradtrace.fold.build import as_recorded, built
from gradtrace.fold.containers import with_containers
from gradtrace.fold.focus import focused
from gradtrace.fold.legible import legible
from gradtrace.fold.line import line_of
from gradtrace.fold.samples import sampled
from gradtrace.fold.selection import between, check_opened, through
from gradtrace.fold.stages import Stages
from gradtrace.fold.tangle import is_tangled
from gradtrace.gc_pause import gc_paused
from gradtrace.graph import span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.fold.groups import Part
    from gradtrace.model import BackwardPass, Finding

__all__ = ["fold"]

SLOW = 500  # ranks that all edges span; above, leaves go into their users' boxes, or a layout takes minutes
SMALL, USUAL = 10, 150  # boxes; who asks for more wants them, tangled or not
READABLE = 40  # boxes that are read at a glance, where nobody says how large they are


def fold(
    graph: BackwardPass,
    view: View = View(),  # noqa: B008 - frozen
    findings: Sequence[Finding] = (),
    fits: Callable[[Folded], bool] | None = None,
) -> Folded:
    """Return a pass in boxes, folded as little as is needed.

    That is for at most ``view.max_nodes`` boxes, or where the view names no number, until the fold ``fits``.
    """
    with gc_paused():
        if not view.focus and (view.full or view.depth is not None or view.max_nodes is not None):
            return _fold(graph, view, findings)
        part, cut = _asked(with_containers(graph), view)
        if view.focus:
            return focused(part, view, findings, fits or _is_readable)
        return legible(part, view, (findings, cut), fits or _is_readable)


def _is_readable(folded: Folded) -> bool:
    return len(folded.boxes) <= READABLE


def _fold(graph: BackwardPass, view: View, findings: Sequence[Finding]) -> Folded:
    graph, cut = _asked(with_containers(graph), view)
    few = view.max_nodes is not None and len(graph.nodes) <= view.max_nodes and span(graph) <= SLOW
    if view.full or (view.depth is None and few):
        return as_recorded(graph, findings, cut)
    line, most = line_of(graph), view.max_nodes or USUAL
    while True:
        stages = Stages(line, replace(view, max_nodes=most))
        parts, openings, plan = stages.parts()
        parts = parts if plan is None else sampled(stages, plan, parts)
        if not is_tangled(line, parts) or view.depth is not None or not SMALL <= most <= USUAL:
            return built(line, parts, (*cut, *openings, *_excess(parts, view)), findings)
        most = min(most, len(parts)) * 2 // 3


def _excess(parts: Sequence[Part], view: View) -> tuple[Opening, ...]:
    """Return a word on what was asked for where that is more than the budget."""
    most = view.max_nodes or USUAL
    if len(parts) <= most:
        return ()
    asked = f"--depth {view.depth}" if view.depth is not None else " ".join(f"--open {path}" for path in view.open)
    return (Opening(f"more than {most:,} boxes, as {asked} asks for", ""),)


def _asked(graph: BackwardPass, view: View) -> tuple[BackwardPass, tuple[Opening, ...]]:
    """Return the part of the pass that is asked for, and a word on what that leaves out."""
    check_opened(graph, view.open)
    if view.through:
        part, what = through(graph, view.through), f"only the ways through {view.through}"
    elif view.between:
        part, what = between(graph, *view.between), f"only the ways between {view.between[0]} and {view.between[1]}"
    else:
        return graph, ()
    return part, (Opening(f"{what}, {len(part.nodes):,} of {len(graph.nodes):,} nodes", ""),)
