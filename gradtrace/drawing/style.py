"""Style of a drawing, which every format is given."""

from __future__ import annotations

from msgspec import Struct

from gradtrace.drawing.theme import Theme
from gradtrace.fold import View

__all__ = ["SORTS", "Style"]

SORTS = ("order", "norm", "seconds")


class Style(Struct, frozen=True):
    """Style of a drawing: the layout engine and its limit, the width and colour of text.

    Args:
        engine: ``pygraphviz`` (the Graphviz in its wheel) or ``dot`` (the system's).
        timeout: seconds that a layout may take.
        width: columns of a text table; None for as wide as needed.
        color: whether text carries ANSI colours.
        rows: nodes that a text table shows; None for all.
        view: what to show of the pass, and how much of it is folded.
        link: where a node's box leads, with ``{file}`` and ``{line}`` for its source; empty for nowhere.
        columns: how many newspaper columns, or ``auto``: as many as make a page of what is too tall.
        page: whether the picture is for a page, and so is cut earlier.
        attributes: characters to show of each plain attribute that a node keeps; 0 for none of them.
        saved: whether a node's box shows the tensors that it keeps.
        slopes: whether an edge of scalars says the local derivative (``48 = 1 · 3·4²``); None for passes of no more
            than 20 scalars.
        sort: the order of a text table: ``order`` of execution, ``norm`` of the gradient, or ``seconds``.
        theme: colours and fonts of the user's own; None for ours.
        dot: DOT text to lay out in place of our own drawing (``--style torchviz``).
    """

    engine: str = "pygraphviz"
    timeout: float = 60.0
    width: int | None = None
    color: bool = False
    rows: int | None = None
    view: View = View()
    link: str = ""
    columns: str = "auto"
    page: bool = False
    attributes: int = 0
    saved: bool = False
    sort: str = "order"
    theme: Theme | None = None
    dot: str | None = None
    slopes: bool | None = None
