"""Series of leaves: one compact row per leaf and pass, whether or not the pass is kept."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from gradtrace.model import LeafSeries
from gradtrace.recording.backward.thinning import MOST_ROWS, thinned
from gradtrace.recording.stats.device import Away, Lost, Transfer, send
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import norm_of

if TYPE_CHECKING:
    from gradtrace.recording.backward.raw_pass import LeafRow

__all__ = ["UNREACHED", "SeriesLog"]

# Pending rows, whose norms are computed together; and pending passes, if the norms are on a device.
_WAITING = 2000
_PASSES = 256
_LEVELS = 40
_LOOK = 1_000  # passes between two checks of the number of rows
UNREACHED = -1.0  # replaces a norm; a non-finite one stands for a gradient without a norm

# A norm, or its origin: a measurement, or a position among numbers on a device.
Norm = float | Measured | tuple[Away, int] | None


class SeriesLog:
    """Gradient norm of each leaf by pass, and whether the leaf was reached."""

    # A leaf's rows are indices of passes and norms by turns, in one array: a signal handler that raises between two
    # appends would otherwise leave half a row.
    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[int, ...]], array[float]] = {}
        self._waiting: list[tuple[int, array[float], Norm]] = []
        # A transfer, and how many of the pending rows it has the numbers of.
        self._under_way: tuple[Transfer, int] | None = None
        self.most = MOST_ROWS
        self._level = 0  # of thinning
        self._next_look = _LOOK

    def rows_of(self, name: str, shape: tuple[int, ...]) -> array[float]:
        """Return the rows of a leaf, to be extended by the index of a pass and the norm that arrived in it."""
        rows = self._rows.get((name, shape))
        if rows is None:
            rows = self._rows[name, shape] = array("d")
        return rows

    def add(self, pass_index: int, rows: list[LeafRow]) -> None:
        """Add a row for each leaf of a pass."""
        self._waiting += [(pass_index, self.rows_of(name, shape), measured) for name, shape, measured in rows]
        self.write_arrived()

    def wait(self, pass_index: int, rows: array[float], norm: Norm) -> None:
        """Add one row, to be written after all pending ones."""
        self._waiting.append((pass_index, rows, norm))

    def write_arrived(self) -> bool:
        """Write the pending rows if there are many and their numbers have arrived; tell whether none is left."""
        self._next_look -= 1
        if not self._next_look:
            self._thin()
        if self._under_way is None and self._is_due():
            self._under_way = send(), len(self._waiting)
        if self._under_way is not None and self._under_way[0].has_arrived:
            count, self._under_way = self._under_way[1], None
            self._write(count)
        return not self._waiting

    def _is_due(self) -> bool:
        if len(self._waiting) <= _WAITING:
            return False
        return type(self._waiting[0][2]) is not tuple or self._waiting[-1][0] - self._waiting[0][0] > _PASSES

    def found(self) -> tuple[LeafSeries, ...]:
        """Return the series of each leaf, in order of first appearance."""
        self._under_way = None
        self._write(len(self._waiting))
        self._thin()
        return tuple(_series(name, shape, rows) for (name, shape), rows in self._rows.items())

    def _write(self, count: int) -> None:
        written, self._waiting = self._waiting[:count], self._waiting[count:]
        reduce_pending([norm for *_, norm in written if isinstance(norm, list)])
        for index, rows, norm in written:
            rows.extend((index, _number(norm)))

    def _thin(self) -> None:
        """Drop old rows if there are too many; the arrays of rows stay the same objects, as others hold them."""
        self._next_look = _LOOK
        while sum(map(len, self._rows.values())) > 2 * self.most and self._level < _LEVELS:
            self._level += 1
            for rows in self._rows.values():
                rows[:] = thinned(rows, self._level)


def _number(norm: Norm) -> float:
    if norm is None:
        return UNREACHED
    if isinstance(norm, float):
        return norm
    if isinstance(norm, tuple):
        away, place = norm
        if away.found is None:
            away.found = away.take()
        return math.nan if isinstance(away.found, Lost) else float(away.found[place])
    found = norm_of(norm)
    return math.nan if found is None else found


def _series(name: str, shape: tuple[int, ...], rows: array[float]) -> LeafSeries:
    norms = rows[1::2]
    finite = [norm if math.isfinite(norm) and norm != UNREACHED else None for norm in norms]
    return LeafSeries(name, shape, list(map(int, rows[::2])), finite, [norm != UNREACHED for norm in norms])
