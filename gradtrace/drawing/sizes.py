"""Sizes of cards, from their labels alone and with every number as if it were 0.1234.

So what is folded and where columns are cut depends on the graph and not on its gradients.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gradtrace.drawing.palette import FAILED, WARNED
from gradtrace.engine.widths import width

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Size", "size_of"]

Size = tuple[float, float]  # width and height, in points

NUMBER = re.compile(
    r"(?<![\w×.:(])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w×.]| (?:box|lea|node|tensor|edge))|(?<=\()n\d+(?=\))"
)
FONT_SIZE, LINE_HEIGHT = 10.0, 1.2  # of a card's text, and its line by its font's size
LETTER = 0.6  # of its font's size, about, where a font has no such character


def size_of(label: str, font_size: float = FONT_SIZE) -> Size:
    """Return the width and height of a card without its badges, in points."""
    return _table(ET.fromstring(label[1:-1]), font_size)  # noqa: S314 - we wrote it


def _table(table: ET.Element, font_size: float) -> Size:
    gap, border = float(table.get("cellspacing", 2)), float(table.get("border", 1))
    rows = [row for row in table.findall("tr") if not _is_badge(row)]
    cells = [[_cell(cell, table, font_size) for cell in row.findall("td")] for row in rows]
    wide = max((sum(w for w, _ in row) + gap * (len(row) - 1) for row in cells), default=0.0)
    high = sum(max((h for _, h in row), default=0.0) for row in cells) + gap * max(0, len(cells) - 1)
    return wide + 2 * (gap + border), high + 2 * (gap + border)


def _is_badge(row: ET.Element) -> bool:
    return any(cell.get("bgcolor") in {FAILED, WARNED} for cell in row.findall("td"))


def _cell(cell: ET.Element, table: ET.Element, font_size: float) -> Size:
    inner = cell.find("table")
    content = _table(inner, font_size) if inner is not None else _text(cell, font_size)
    around = 2 * (float(cell.get("cellpadding", table.get("cellpadding", 2))) + float(cell.get("border", 0)))
    least = float(cell.get("width", 0)), float(cell.get("height", 0))
    if cell.get("fixedsize"):
        return least
    return max(least[0], content[0] + around), max(least[1], content[1] + around)


def _text(cell: ET.Element, font_size: float) -> Size:
    """Return the size of lines of text."""
    lines = [[0.0, 0.0]]
    for text, family, size, bold in _runs(cell, font_size):
        if text == "\n":
            lines.append([0.0, 0.0])
            continue
        plain = text if "monospace" in family else NUMBER.sub("0.1234", text)
        advance = width(plain, family, size, bold=bold)
        lines[-1][0] += LETTER * size * len(plain) if advance is None else advance
        lines[-1][1] = max(lines[-1][1], LINE_HEIGHT * size)
    return max(line[0] for line in lines), sum(line[1] for line in lines)


def _runs(cell: ET.Element, font_size: float) -> Iterator[tuple[str, str, float, bool]]:
    """Yield each stretch of text with its font, its size and whether it is bold; a line's end as a newline."""
    waiting: list[tuple[ET.Element | str, str, float, bool]] = [(cell, "", font_size, False)]
    while waiting:
        what, family, size, bold = waiting.pop()
        if isinstance(what, str):
            yield what, family, size, bold
            continue
        if what.tag == "br":
            yield "\n", family, size, bold
        mine = (what.get("face", family), float(what.get("point-size", size)), bold or what.tag == "b")
        parts: list[tuple[ET.Element | str, str, float, bool]] = [(what.text, *mine)] if what.text else []
        for child in what:
            parts.append((child, *mine))
            parts += [(child.tail, *mine)] if child.tail else []
        waiting += reversed(parts)
