"""Words and numbers of a history: a line on the run, and a row with a sparkline for each leaf."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.wording.numbers import number, shape
from gradtrace.wording.quoting import one_line
from gradtrace.wording.tables import Cell, Column, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["LeafLine", "history_table", "sparkline"]

BARS = "▁▂▃▄▅▆▇█"
MARKS = {"none": " ", "unreached": "·", "zero": "0", "not finite": "×"}
COLUMNS = (
    Column("leaf", 24, 8),
    Column("shape", 10, 6, goes=3),
    Column("over the passes", 24, 12),
    Column("first", 9, 6, goes=2),
    Column("least", 9, 6),
    Column("median", 9, 6, goes=2),
    Column("largest", 9, 6),
    Column("last", 9, 6),
    Column("unreached", 9, 4),
    Column("not finite", 10, 4),
)
LEGEND = "bar: the norm, logarithmic, over all leaves; · unreached, 0 zero, × NaN or infinity"


class LeafLine(NamedTuple):
    """A printed leaf: name, shape, states and norms along the passes, five norms, two counts."""

    name: str
    shape: tuple[int, ...]
    along: list[tuple[str, float]]
    norms: Sequence[float | None]
    counts: tuple[int, int]


def sparkline(along: list[tuple[str, float]], low: float, high: float) -> str:
    """Return a bar for each norm, on a logarithmic scale from ``low`` to ``high``, or a mark for a missing one.

    >>> sparkline([("finite", 1e-3), ("finite", 1.0), ("zero", 0.0), ("not finite", 0.0)], 1e-3, 1.0)
    '▁█0×'
    """
    span = math.log(high / low) if 0 < low < high else 0.0
    text = ""
    for state, norm in along:
        share = math.log(norm / low) / span if span and norm > 0 else 0.5
        text += MARKS.get(state) or BARS[min(max(int(share * len(BARS)), 0), len(BARS) - 1)]
    return text


def history_table(leaves: list[LeafLine], width: int | None, *, color: bool) -> Iterator[str]:
    """Yield the lines of the table and its legend."""
    finite = [norm for leaf in leaves for state, norm in leaf.along if state == "finite" and norm > 0]
    low, high = min(finite, default=1.0), max(finite, default=1.0)
    rows = [
        [
            Cell(one_line(leaf.name) or "(no name)"),
            Cell(shape(leaf.shape), "dim"),
            Cell(sparkline(leaf.along, low, high)),
            *(Cell(number(norm) if norm is not None else "–") for norm in leaf.norms),
            *(Cell(f"{count:,}" if count else "", "bold red") for count in leaf.counts),
        ]
        for leaf in leaves
    ]
    yield from lines(COLUMNS, rows, width, color=color)
    yield ""
    yield LEGEND
