"""Thinning of long series: above a stated size every second old row is dropped, except extremes and non-finite ones."""

from __future__ import annotations

from array import array

import numpy as np

__all__ = ["MOST_ROWS", "RECENT", "thinned"]

MOST_ROWS = 2_000_000  # of all leaves together: 32 MB, and as much in a file
RECENT = 1_000  # passes of which all rows stay
BROKEN = 1_000  # rows of a leaf kept because they are not finite: the first ones


def thinned(rows: array[float], level: int, width: int = 2) -> array[float]:
    """Return the rows (the index of a pass, then a number, ``width`` in all) that remain at a level.

    Of the old passes those remain whose index is a multiple of ``2 ** level``, so that all series keep the same ones;
    and the rows with the least and the largest number, the first, and those whose number is not finite.
    """
    table = np.frombuffer(rows, dtype=np.float64).reshape(-1, width)
    if len(table) <= RECENT:
        return rows
    passes, numbers = table[:, 0], table[:, 1]
    stay = (passes % 2**level == 0) | (passes > passes[-1] - RECENT)
    broken = np.flatnonzero(~np.isfinite(numbers))[:BROKEN]
    stay[[0, *broken]] = True
    reached = np.where(np.isfinite(numbers) & (numbers >= 0), numbers, np.nan)  # negative: not reached
    if not np.isnan(reached).all():
        stay[[np.nanargmin(reached), np.nanargmax(reached)]] = True
    return array("d", table[stay].tobytes())
