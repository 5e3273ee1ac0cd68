"""One compact row per leaf and pass, whether the pass is kept or not: what a loop of 30,000 passes leaves behind."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.model import LeafSeries
from gradtrace.recording.reduction import settle
from gradtrace.recording.statistics import Measured, norm_of

if TYPE_CHECKING:
    from gradtrace.recording.raw import RawPass

__all__ = ["SeriesLog"]

# Rows that wait, so that their norms are found together.
_WAITING = 2000


class _Columns(NamedTuple):
    shape: tuple[int, ...]
    passes: array[int]
    norms: array[float]
    reached: bytearray


class SeriesLog:
    """The gradient norm of each leaf, pass by pass, and whether it was reached."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, tuple[int, ...]], _Columns] = {}
        self._waiting: list[tuple[int, str, tuple[int, ...], Measured | None]] = []

    def add(self, raw: RawPass) -> None:
        """Add a row for each leaf of the pass."""
        index = raw.index
        self._waiting += [(index, *row) for row in raw.series()]
        if len(self._waiting) > _WAITING:
            self._write()

    def found(self) -> tuple[LeafSeries, ...]:
        """Return the series of each leaf, in order of first appearance."""
        self._write()
        return tuple(
            LeafSeries(
                name, columns.shape, list(columns.passes), _finite(columns.norms), list(map(bool, columns.reached))
            )
            for (name, _), columns in self._columns.items()
        )

    def _write(self) -> None:
        settle([measured for *_, measured in self._waiting if measured is not None])
        for index, name, shape, measured in self._waiting:
            columns = self._columns.get((name, shape))
            if columns is None:
                columns = self._columns[name, shape] = _Columns(shape, array("q"), array("d"), bytearray())
            norm = None if measured is None else norm_of(measured)
            columns.passes.append(index)
            columns.norms.append(math.nan if norm is None else norm)
            columns.reached.append(measured is not None)
        self._waiting.clear()


def _finite(norms: array[float]) -> list[float | None]:
    return [norm if math.isfinite(norm) else None for norm in norms]
