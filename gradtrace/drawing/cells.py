"""The pieces that cards are made of, in Graphviz's HTML-like labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.drawing.palette import FILL, INVERSE, MUTED, SPECIAL, step
from gradtrace.wording.numbers import Scale, kind
from gradtrace.wording.quoting import escaped, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.model import TensorStats

AROUND = '<font point-size="7">&#160;</font>'  # room between text and the border of its card

LONGEST = 300  # characters of a cell: Graphviz reads 16 KB of a label at most

__all__ = ["alarm", "bold", "chip", "row", "small", "table"]


def chip(grad: TensorStats | None, text: str, scale: Scale) -> str:
    """Return a row with a gradient on the colour of its magnitude, or in the look of what has none."""
    what = kind(grad)
    if what == "finite":
        return row(bold(text), f'bgcolor="{step(scale.share(grad), FILL)}" style="rounded" cellpadding="2"')
    color = SPECIAL[what]
    if what in {"nan", "inf"}:
        return alarm(text, color)
    line = {"none": "dashed", "zero": "dotted"}.get(what, "solid")
    return row(escaped(text), f'border="1" color="{color}" style="rounded,{line}" cellpadding="2"')


def alarm(text: str, color: str) -> str:
    """Return a row that nobody overlooks."""
    return row(f'<font color="{INVERSE}">{bold(text)}</font>', f'bgcolor="{color}" style="rounded" cellpadding="2"')


def table(rows: Iterable[str], attributes: str) -> str:
    """Return a label: rows in a table."""
    return f'<<table cellborder="0" cellpadding="1" {attributes}>{"".join(rows)}</table>>'


def row(text: str, attributes: str = "") -> str:
    """Return a row of one cell, which holds text or a table."""
    around = "" if text.startswith("<table") or not text else AROUND
    return f"<tr><td {attributes}>{around}{text}{around}</td></tr>"


def bold(text: str) -> str:
    """Return text in bold.

    >>> bold("a < b")
    '<b>a &lt; b</b>'
    """
    return f"<b>{escaped(shorten(text, LONGEST))}</b>"


def small(text: str, color: str = MUTED) -> str:
    """Return small print."""
    return f'<font point-size="9" color="{color}">{escaped(shorten(text, LONGEST))}</font>'
