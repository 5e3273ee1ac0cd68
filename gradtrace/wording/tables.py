"""Text in columns that fit a terminal: one line per row, shortened in the middle, never wrapped.

rich measures and colours; its own Table would wrap or cut at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cell", "Column", "lines", "paint", "shorten"]

GAP = "  "


class Cell(NamedTuple):
    """A text, its style where there is colour, and a brief form for little room."""

    text: str
    style: str = ""
    brief: str = ""


Row = Sequence[Cell]


class Column(Struct, frozen=True):
    """A column: its title, its preferred width, its least and its largest.

    One that ``goes`` is left out where there is no room, 1 before 2 before 3, 0 never. A ``list`` loses its
    end, anything else its middle.
    """

    title: str
    good: int
    least: int
    most: int = 60
    goes: int = 0
    list: bool = False


def lines(columns: Sequence[Column], rows: Sequence[Row], width: int | None, *, color: bool) -> Iterator[str]:
    """Yield the rows below the columns' titles, none wider than ``width`` if there is one."""
    table = _brief(columns, [[Cell(column.title, "dim") for column in columns], *rows], width)
    widths = _natural(columns, table) if width is None else _fit(columns, _natural(columns, table), width)
    for row in table:
        yield _line([(row[i], size, columns[i].list) for i, size in widths.items()], width, color=color)


def shorten(text: str, width: int, *, end: bool = False) -> str:
    """Return ``text`` in at most ``width`` columns, with an ellipsis for what its middle or ``end`` loses.

    >>> shorten("ScaledDotProductAttentionBackward0", 16), shorten("u 4, v 2, w 1", 10, end=True)
    ('ScaledDo…ckward0', 'u 4, v 2,…')
    """
    if cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    from rich.cells import set_cell_size  # noqa: PLC0415 - as in cell_len

    head, tail = (width - 1, 0) if end else (width // 2, (width - 1) // 2)
    return f"{set_cell_size(text, head)}…{set_cell_size(text[::-1], tail)[::-1]}"


def paint(text: str, style: str, *, color: bool) -> str:
    """Return ``text`` in the ANSI colours of ``style``, or as it is."""
    if not (color and style and text):
        return text
    from rich.color import ColorSystem  # noqa: PLC0415 - as in cell_len
    from rich.style import Style  # noqa: PLC0415

    return Style.parse(style).render(text, color_system=ColorSystem.STANDARD)


def cell_len(text: str) -> int:
    """Return the columns that a terminal needs for this text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len as measured  # noqa: PLC0415 - with tables that plain text needs not load

    return measured(text)


def _brief(columns: Sequence[Column], table: list[Row], width: int | None) -> list[Row]:
    """Return the rows with brief cells in as few columns as needed, from the last; columns left out don't count."""
    for i in reversed(range(len(columns))):
        natural = _natural(columns, table)
        if width is None or _total({k: size for k, size in natural.items() if columns[k].goes != 1}) <= width:
            break
        table = [[*row[:i], Cell(row[i].brief or row[i].text, row[i].style), *row[i + 1 :]] for row in table]
    return table


def _natural(columns: Sequence[Column], rows: Sequence[Row]) -> dict[int, int]:
    """Return the preferred width of each column that is not empty."""
    widest = [max(cell_len(row[i].text) for row in rows) for i in range(len(columns))]
    return {i: min(columns[i].most, size) for i, size in enumerate(widest) if size}


def _fit(columns: Sequence[Column], natural: dict[int, int], width: int) -> dict[int, int]:
    """Return the widths of the columns kept, leaving out and shrinking as few as needed."""
    widths = natural
    for gone, floor in ((0, "good"), (1, "good"), (1, "least"), (2, "least"), (3, "least")):
        widths = {i: size for i, size in natural.items() if not 0 < columns[i].goes <= gone}
        _shrink(widths, {i: getattr(columns[i], floor) for i in widths}, width)
        if _total(widths) <= width:
            break
    return widths


def _shrink(widths: dict[int, int], floors: dict[int, int], width: int) -> None:
    """Shrink the widest column that can shrink, repeatedly, until all fit or none can."""
    while _total(widths) > width:
        soft = [i for i in widths if widths[i] > floors[i]]
        if not soft:
            return
        widths[max(soft, key=widths.__getitem__)] -= 1


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(cells: Sequence[tuple[Cell, int, bool]], width: int | None, *, color: bool) -> str:
    """Join the cells, each padded to its width but for the last that holds something."""
    last = max((i for i, (cell, *_) in enumerate(cells) if cell.text), default=-1)
    parts, used = [], 0
    for i, (cell, size, end) in enumerate(cells[: last + 1]):
        room = size if width is None else max(0, min(size, width - used))
        text = shorten(cell.text, room, end=end)
        gap = "" if i == last else " " * (room - cell_len(text)) + GAP
        parts.append(paint(text, cell.style, color=color) + gap)
        used += room + len(GAP)
    return "".join(parts).rstrip()
