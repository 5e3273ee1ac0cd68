"""Series of leaves: one compact row per leaf and pass, whether the pass is kept or not."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from gradtrace.model import LeafSeries
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import norm_of

if TYPE_CHECKING:
    from gradtrace.recording.backward.raw_pass import LeafRow

__all__ = ["UNREACHED", "SeriesLog"]

# Rows that wait, so that their norms are found together.
_WAITING = 2000
UNREACHED = -1.0  # in place of a norm; one that is not finite stands for a gradient without one


class SeriesLog:
    """The gradient norm of each leaf, pass by pass, and whether it was reached."""

    # A leaf's rows are indices of passes and norms by turns: in one array, as a signal's handler that raises between
    # two appends would leave half a row.
    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[int, ...]], array[float]] = {}
        self._waiting: list[tuple[int, str, tuple[int, ...], Measured | None]] = []

    def rows_of(self, name: str, shape: tuple[int, ...]) -> array[float]:
        """Return the rows of a leaf, to be extended by the index of a pass and the norm that arrived in it."""
        rows = self._rows.get((name, shape))
        if rows is None:
            rows = self._rows[name, shape] = array("d")
        return rows

    def add(self, pass_index: int, rows: list[LeafRow]) -> None:
        """Add a row for each leaf of a pass."""
        self._waiting += [(pass_index, *row) for row in rows]
        if len(self._waiting) > _WAITING:
            self.write()

    def found(self) -> tuple[LeafSeries, ...]:
        """Return the series of each leaf, in order of first appearance."""
        self.write()
        return tuple(_series(name, shape, rows) for (name, shape), rows in self._rows.items())

    def write(self) -> None:
        """Write the rows that wait: before others are written beside them, which come later."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        reduce_pending([measured for *_, measured in waiting if measured is not None])
        for index, name, shape, measured in waiting:
            norm = UNREACHED if measured is None else norm_of(measured)
            self.rows_of(name, shape).extend((index, math.nan if norm is None else norm))


def _series(name: str, shape: tuple[int, ...], rows: array[float]) -> LeafSeries:
    norms = rows[1::2]
    finite = [norm if math.isfinite(norm) and norm != UNREACHED else None for norm in norms]
    return LeafSeries(name, shape, list(map(int, rows[::2])), finite, [norm != UNREACHED for norm in norms])
