"""Series that grow too long: old rows go, and what matters stays."""

from __future__ import annotations

import math
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from gradtrace.recording.backward.leaf_series import UNREACHED, SeriesLog
from gradtrace.recording.backward.thinning import RECENT, thinned

NUMBERS = st.floats(0, 1e30) | st.sampled_from([math.nan, math.inf, UNREACHED, 0.0])


def rows_of(numbers):
    rows = array("d")
    for index, number in enumerate(numbers, 1):
        rows.extend((index, number))
    return rows


def pairs(rows):
    return list(zip(rows[::2], rows[1::2], strict=True))


@settings(deadline=None, max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=60), st.integers(1, 5))
def test_what_stays_was_there_with_the_extremes_and_all_that_is_not_finite(numbers, level):
    numbers = numbers + [1.0] * RECENT
    before, after = pairs(rows_of(numbers)), pairs(thinned(rows_of(numbers), level))
    stayed = set(map(repr, after))
    assert [repr(row) for row in after] == [repr(row) for row in before if repr(row) in stayed]
    assert after[-RECENT:] == before[-RECENT:]
    reached = [number for number in numbers if math.isfinite(number) and number >= 0]
    kept = [number for _, number in after if math.isfinite(number) and number >= 0]
    assert (min(kept), max(kept)) == (min(reached), max(reached))
    broken = [repr(row) for row in before if not math.isfinite(row[1])]
    assert [repr(row) for row in after if not math.isfinite(row[1])] == broken


def test_a_hundred_thousand_passes_take_no_more_room_than_is_stated():
    log = SeriesLog()
    log.most = 20_000
    held = [log.rows_of(f"w{leaf}", ()) for leaf in range(10)]
    for index in range(1, 30_001):
        log.write_arrived()
        for rows in held:
            rows.extend((index, 1.0 / index))
    series = log.found()
    assert sum(len(leaf.passes) for leaf in series) <= 20_000
    assert all(leaf.passes[0] == 1 and leaf.passes[-1] == 30_000 for leaf in series)
    assert all(leaf.norms == [1.0 / index for index in leaf.passes] for leaf in series)
    assert series[0].passes == series[1].passes
    assert log.rows_of("w0", ()) is held[0]  # which others hold, too
