"""The fold of a pass with which its picture can be read without zooming, as large as it will be drawn."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.drawing.columns import columns_of, even_columns
from gradtrace.drawing.sheet import SPACE, Sheet
from gradtrace.drawing.sizes import size_of
from gradtrace.engine import measured
from gradtrace.errors import EngineError
from gradtrace.fold.folding import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradtrace.drawing.sizes import Size
    from gradtrace.drawing.style import Style
    from gradtrace.fold import Folded, Link
    from gradtrace.model import BackwardPass, Finding

    Cards = Callable[[Folded], dict[str, dict[str, str]]]
    Head = Callable[[Folded], str]

__all__ = ["PAPER", "SCREEN", "fitted"]

SMALLEST = 9.0  # points of the smallest text
PX, INCH = 0.75, 72.0  # points of a CSS pixel, and of an inch
MOST_BOXES = 150  # which a picture of that size can't hold
MOST_COLUMNS, MOST_TRIES = 6, 2  # numbers of columns that are tried
FULLEST = 0.42  # of the paper that boxes may stand on: between them go lines
SURE_WIDE, SURE_HIGH = (
    0.97,
    0.92,
)  # of what there may be: real numbers are narrower or wider than those that were measured
SLACK = 0.75  # of the size that even columns would have: some are narrower than the whole was
HEADING = 14.0  # points of the title's text
TIMEOUT = 10.0  # seconds for a layout that only measures


class Medium(Struct, frozen=True):
    """Medium that a picture is read on: points across of which it is fitted, and how tall it may be by its width."""

    across: float
    tallest: float
    goal: float
    low: float  # points of height that need no columns, whatever the width

    @property
    def widest(self) -> float:
        """The points across at which the smallest text is nine CSS pixels high."""
        return self.across * SMALLEST / (9 * PX)

    def holds(self, size: Size) -> bool:
        """Tell whether a picture of about this size can be read."""
        return size[0] <= SURE_WIDE * self.widest and size[1] <= max(self.low, SURE_HIGH * self.tallest * size[0])

    def highest(self, wide: float) -> float:
        """Return how tall a picture so wide may be."""
        return max(self.low, self.tallest * wide)

    def counts(self, size: Size) -> list[int]:
        """Return how many columns may make a picture of this size readable, the best first."""
        wide, high = size
        counts = [
            count
            for count in range(2, MOST_COLUMNS + 1)
            if SLACK * count * wide <= self.widest and SLACK * high / count <= self.highest(count * wide)
        ]
        return sorted(counts, key=lambda count: abs(high / count - self.goal * count * wide))[:MOST_TRIES]


SCREEN = Medium(1280 * PX, 2.5, 1.2, 1000.0)
PAPER = Medium(595 - 2 * 28, 0.0, 1.3, (842 - 2 * 28) / 0.75)  # A4 within margins of a centimetre


def fitted(graph: BackwardPass, findings: Sequence[Finding], style: Style, words: tuple[Cards, Head]) -> Sheet:
    """Return the boxes of a pass with their cards and columns.

    Where the view asks for no fold of its own, it is the least one with which the picture can be read.
    """
    view, fitting = style.view, _Fitting(style, *words)
    if view.full or view.max_nodes is not None or view.depth is not None:
        return fitting.sheet(fold(graph, view, findings))
    try:
        return fitting.sheet(fold(graph, view, findings, fitting.fits))
    except EngineError:  # there is nothing to measure with: few boxes, whatever their size
        return fitting.sheet(fold(graph, view, findings))


class _Fitting:
    """Folds as they will be drawn, on a medium."""

    def __init__(self, style: Style, cards: Cards, head: Head) -> None:
        self._style, self._cards, self._head = style, cards, head
        self._medium = PAPER if style.page else SCREEN
        self._last: Sheet | None = None

    def fits(self, folded: Folded) -> bool:
        """Tell whether a picture of this fold can be read; the last one that can is remembered."""
        sheet = self._readable(folded, self._cards(folded)) if len(folded.boxes) <= MOST_BOXES else None
        self._last = sheet or self._last
        return sheet is not None

    def sheet(self, folded: Folded) -> Sheet:
        """Return the boxes of a fold in columns, readable or not."""
        if self._last is not None and self._last.folded is folded:
            return self._last
        cards = self._cards(folded)
        with suppress(EngineError):
            if len(folded.boxes) <= MOST_BOXES and (sheet := self._readable(folded, cards)):
                return sheet
        column = columns_of(folded, _sizes(cards), self._style.columns, page=self._style.page)
        return Sheet(folded, cards, column)

    def _readable(self, folded: Folded, cards: dict[str, dict[str, str]]) -> Sheet | None:
        """Return the boxes in as few columns as make a picture that can be read, or None."""
        sizes, medium = _sizes(cards), self._medium
        if sum(wide * high for wide, high in sizes.values()) > FULLEST * medium.widest * medium.highest(medium.widest):
            return None
        if self._style.columns != "auto":
            column = columns_of(folded, sizes, self._style.columns)
            return Sheet(folded, cards, column) if medium.holds(self._measured(folded, sizes, column)) else None
        column = dict.fromkeys(sizes, 0)
        size = self._measured(folded, sizes, column)
        if medium.holds(size):
            return Sheet(folded, cards, column)
        for count in medium.counts(size):
            column = even_columns(folded, sizes, count)
            if column and medium.holds(self._measured(folded, sizes, column)):
                return Sheet(folded, cards, column)
        return None

    def _measured(self, folded: Folded, sizes: Mapping[str, Size], column: Mapping[str, int]) -> Size:
        """Return the size that the picture will have, in points, from a layout of bare boxes."""
        from graphviz import Digraph  # noqa: PLC0415 - 15 ms that only a drawing needs

        boxes = {
            box_id: {"width": f"{wide / INCH:.3f}", "height": f"{high / INCH:.3f}"}
            for box_id, (wide, high) in sizes.items()
        }
        bare = {"shape": "box", "fixedsize": "true", "label": ""}
        picture = Digraph(graph_attr=SPACE, node_attr=bare, edge_attr={"arrowsize": "0.6"})
        Sheet(folded, boxes, column).draw(picture, lambda link: _bare_lines(link, folded))
        try:
            laid = measured(str(picture.source), TIMEOUT)
        except EngineError as error:
            if not error.slow:
                raise
            return (math.inf, math.inf)
        wide, high = size_of(self._head(folded), HEADING)
        pad = 2 * INCH * float(SPACE["pad"])
        return max(wide, laid[0]) + pad, laid[1] + high + pad


def _sizes(cards: Mapping[str, Mapping[str, str]]) -> dict[str, Size]:
    return {box_id: size_of(look["label"]) for box_id, look in cards.items()}


def _bare_lines(link: Link, folded: Folded) -> list[dict[str, str]]:
    both = {link.source, link.target}
    bundled = any(folded.by_id[box_id].kind not in {"node", "op"} for box_id in both)
    weight = {"weight": "1"} if folded.graph.by_id[folded.by_id[link.target].nodes[0]].kind == "leaf" else {}
    return [weight] * (1 if bundled else len(link.edges))
