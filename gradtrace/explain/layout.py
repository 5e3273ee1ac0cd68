"""Layout of an explanation's lines: equations as a table where they fit, nothing wider than asked for."""

from __future__ import annotations

import textwrap

__all__ = ["INDENT", "SPACE", "Row", "beside", "derivation", "wrapped"]

SPACE, INDENT = "   ", "    "
BESIDE = 34  # columns of what went out, beside which its formula stands

# An equation; its number, autograd's and that of finite differences; what is said at the end.
Row = tuple[str, str, str, str, str]


def wrapped(line: str, width: int, indent: int = 8) -> list[str]:
    """Return a line as several that are not wider, where it has blanks to break it at."""
    if len(line) <= width:
        return [line]
    start, rest = line[: len(line) - len(line.lstrip())], line.lstrip()
    return textwrap.wrap(
        rest, width, initial_indent=start, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def beside(left: str, right: str, width: int) -> list[str]:
    """Return two texts side by side, or the second below the first where they would be too wide."""
    line = f"{left:{BESIDE}} {right}" if right else left
    if len(line) <= width:
        return [line]
    return [*wrapped(left, width, 11), *(wrapped(" " * 11 + right, width, 15) if right else [])]


def derivation(rows: list[Row], width: int) -> list[str]:
    """Return the equations: those that fit as a table, the others with their numbers below."""
    narrow = [row for row in rows if any(row[1:4]) and len(SPACE.join(filter(None, row))) <= width]
    while narrow and max(map(len, _table(narrow, narrow))) > width:
        narrow.remove(max(narrow, key=lambda row: (len(row[0]), row)))
    lines: list[str] = []
    for row in rows:
        lines += _table([row], narrow) if row in narrow else _stacked(row, width)
    return lines


def _table(rows: list[Row], among: list[Row]) -> list[str]:
    """Return rows with the columns of all those that they stand among."""
    widths = [max(len(row[column]) for row in among) for column in range(4)]
    columns = [column for column in range(4) if widths[column]]
    lines = (SPACE.join(row[column].ljust(widths[column]) for column in columns) for row in rows)
    return [_ended(line.rstrip(), row) for line, row in zip(lines, rows, strict=True)]


def _ended(line: str, row: Row) -> str:
    return f"{line}{SPACE}{row[4]}" if row[4] else line


def _stacked(row: Row, width: int) -> list[str]:
    """Return a row on several lines: the equation, then its numbers, indented."""
    below = SPACE.join(filter(None, row[1:4]))
    first = wrapped(_ended(row[0], row), width)
    if len(below) + len(INDENT) <= width:
        return [*first, *([INDENT + below] if below else [])]
    return [*first, *(line for cell in row[1:4] if cell for line in wrapped(INDENT + cell, width))]
