"""The fold of a pass with which its picture can be read without zooming, as large as it will be drawn."""

from __future__ import annotations

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
MOST_COLUMNS, MOST_TRIES = 6, 3  # numbers of columns that are tried
SURE = 0.92  # of the height that there may be: real numbers are narrower than those that were measured
SLACK = 0.75  # of the size that even columns would have: some are narrower than the whole was
HEADING = 14.0  # points of the title's text
TIMEOUT = 10.0  # seconds for a layout that only measures


class Medium(Struct, frozen=True):
    """What a picture is read on: points across of which it is fitted, and how tall it may be by its width."""

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
        return size[0] <= self.widest and (size[1] <= self.low or size[1] <= SURE * self.tallest * size[0])

    def counts(self, size: Size) -> list[int]:
        """Return how many columns may make a picture of this size readable, the best first."""
        wide, high = size
        counts = [
            count
            for count in range(2, MOST_COLUMNS + 1)
            if SLACK * count * wide <= self.widest and SLACK * high / count <= self.tallest * count * wide
        ]
        return sorted(counts, key=lambda count: abs(high / count - self.goal * count * wide))[:MOST_TRIES]


SCREEN = Medium(1280 * PX, 2.5, 1.2, 1000.0)
PAPER = Medium(595 - 2 * 28, 1.42, 1.3, 785.0)  # A4 within margins of a centimetre


def fitted(graph: BackwardPass, findings: Sequence[Finding], style: Style, words: tuple[Cards, Head]) -> Sheet:
    """Return the boxes of a pass with their cards and columns.

    Where the view asks for no fold of its own, it is the least one with which the picture can be read.
    """
    cards, head = words
    medium = PAPER if style.page else SCREEN
    last: list[Sheet] = []

    def fits(folded: Folded) -> bool:
        if len(folded.boxes) > MOST_BOXES:
            return False
        sheet = _columned(folded, cards(folded), head(folded), medium, style)
        if sheet is not None:
            last[:] = [sheet]
        return sheet is not None

    if style.view.full or style.view.max_nodes is not None or style.view.depth is not None:
        folded = fold(graph, style.view, findings)
    else:
        folded = _folded(graph, findings, style, fits)
    if last and last[0].folded is folded:
        return last[0]
    looks = cards(folded)
    if len(folded.boxes) <= MOST_BOXES and (sheet := _columned(folded, looks, head(folded), medium, style)):
        return sheet
    sizes = {box_id: size_of(look["label"]) for box_id, look in looks.items()}
    return Sheet(folded, looks, columns_of(folded, sizes, style.columns, page=style.page))


def _folded(graph: BackwardPass, findings: Sequence[Finding], style: Style, fits: Callable[[Folded], bool]) -> Folded:
    """Return the fold that fits, or where there is nothing to measure it with, one in few boxes."""
    try:
        return fold(graph, style.view, findings, fits)
    except EngineError:
        return fold(graph, style.view, findings)


def _columned(
    folded: Folded, cards: dict[str, dict[str, str]], head: str, medium: Medium, style: Style
) -> Sheet | None:
    """Return the boxes in as few columns as make a picture that can be read, or None."""
    sizes = {box_id: size_of(look["label"]) for box_id, look in cards.items()}
    if sum(w * h for w, h in sizes.values()) > 0.7 * medium.widest**2 * medium.tallest:
        return None
    column = dict.fromkeys(sizes, 0) if style.columns == "auto" else columns_of(folded, sizes, style.columns)
    size = _measured(folded, sizes, column, head)
    if medium.holds(size):
        return Sheet(folded, cards, column)
    if size[0] > medium.widest or style.columns != "auto":
        return None
    for count in medium.counts(size):
        column = even_columns(folded, sizes, count)
        if column and medium.holds(_measured(folded, sizes, column, head)):
            return Sheet(folded, cards, column)
    return None


def _measured(folded: Folded, sizes: Mapping[str, Size], column: Mapping[str, int], head: str) -> Size:
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
        return (float("inf"), float("inf"))
    wide, high = size_of(head, HEADING)
    pad = 2 * INCH * float(SPACE["pad"])
    return max(wide, laid[0]) + pad, laid[1] + high + pad


def _bare_lines(link: Link, folded: Folded) -> list[dict[str, str]]:
    both = {link.source, link.target}
    bundled = any(folded.by_id[box_id].kind not in {"node", "op"} for box_id in both)
    weight = {"weight": "1"} if folded.graph.by_id[folded.by_id[link.target].nodes[0]].kind == "leaf" else {}
    return [weight] * (1 if bundled else len(link.edges))
