"""Folding until a picture can be read: one kind of fold after the other, as little as that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.fold.build import as_recorded, built
from gradtrace.fold.line import line_of
from gradtrace.fold.samples import sampled
from gradtrace.fold.stages import Stages
from gradtrace.fold.tangle import is_tangled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.fold.boxes import Folded, Opening, View
    from gradtrace.fold.groups import Part
    from gradtrace.fold.line import Line
    from gradtrace.model import BackwardPass, Finding

    Beside = tuple[Sequence[Finding], tuple[Opening, ...]]  # what is said of the pass, and of what is left out of it

__all__ = ["legible"]

MOST = 150  # boxes, above which no picture can be read
SCALARS = 20  # nodes of a pass of scalars in which each step of the chain rule is shown, repeated or not


def legible(graph: BackwardPass, view: View, beside: Beside, fits: Callable[[Folded], bool]) -> Folded:
    """Return the pass with repetitions folded, and beyond them the least with which it ``fits``.

    Then parameters go into their ops, views into chains, short repetitions, modules and at last whatever
    stands together into one box each; one of each kind is opened again where that fits, too.
    """
    findings, cut = beside
    line = line_of(graph)
    tries = _Tries(line, beside, fits)
    stages = Stages(line, view, tries.fit)
    if len(graph.nodes) <= MOST and (is_scalar(graph) or not (stages.repetitions or _shares_weights(graph))):
        folded = as_recorded(graph, findings, cut)
        if fits(folded):
            return folded
    for staged in stages.levels():
        tries.openings = staged.openings
        if tries.fit(staged.parts):
            if staged.plan is not None:
                sampled(stages, staged.plan, staged.parts)
            break
    return tries.best or tries.built(staged.parts)


def is_scalar(graph: BackwardPass) -> bool:
    """Tell whether a pass is one of few scalars, in which the chain rule can be followed number by number."""
    if len(graph.nodes) > SCALARS:
        return False
    stats = [s for node in graph.nodes for s in (*node.values, *node.grads) if s]
    return bool(stats) and all(not s.shape for s in stats)


def _shares_weights(graph: BackwardPass) -> bool:
    """Tell whether a module's parameter is used twice: drawn once, far from both, it would bundle its lines."""
    return any(node.kind == "leaf" and "." in node.name and len(graph.edges_into[node.id]) > 1 for node in graph.nodes)


class _Tries:
    """Folds that have been tried, of which the last that fits counts."""

    def __init__(self, line: Line, beside: Beside, fits: Callable[[Folded], bool]) -> None:
        self._line, self._beside, self._fits = line, beside, fits
        self.openings: tuple[Opening, ...] = ()
        self.best: Folded | None = None

    def built(self, parts: Sequence[Part]) -> Folded:
        """Return the fold with these parts."""
        findings, cut = self._beside
        return built(self._line, parts, (*cut, *self.openings), findings)

    def fit(self, parts: Sequence[Part]) -> bool:
        """Tell whether the fold with these parts fits, and keep it if so."""
        if len(parts) > MOST or is_tangled(self._line, parts):
            return False
        folded = self.built(parts)
        if not self._fits(folded):
            return False
        self.best = folded
        return True
