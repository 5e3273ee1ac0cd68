"""History of a training: each leaf's gradient norm over the passes, as columns and as one summary a leaf."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.model import LeafSeries, PassSeries, Trace

__all__ = [
    "Difference",
    "LeafSummary",
    "PassRow",
    "columns",
    "first_difference",
    "pass_rows",
    "sampled",
    "state",
    "summaries",
    "summary",
    "update_columns",
]


class PassRow(NamedTuple):
    """Facts of a pass beside its gradients; ``loss`` is None where it is unknown, NaN where not finite."""

    step: int
    loss: float | None
    learning_rate: float | None
    seconds: float
    scale: float | None


class LeafSummary(NamedTuple):
    """A leaf over all passes; the norms are those of passes that reached it with a finite gradient."""

    series: LeafSeries
    first: float | None
    least: float | None
    median: float | None
    largest: float | None
    last: float | None
    unreached: int
    not_finite: int


class Difference(NamedTuple):
    """The first pass in which two histories differ: the leaf, and both norms (None: not finite or not reached)."""

    pass_index: int
    series: LeafSeries
    before: float | None
    after: float | None


def state(norm: float | None, *, reached: bool) -> str:
    """Return what a row of a series says: ``finite``, ``zero``, ``unreached`` or ``not finite``.

    >>> state(0.5, reached=True), state(0.0, reached=True), state(None, reached=True), state(None, reached=False)
    ('finite', 'zero', 'not finite', 'unreached')
    """
    if not reached:
        return "unreached"
    return "not finite" if norm is None else "finite" if norm else "zero"


def summaries(trace: Trace) -> list[LeafSummary]:
    """Return a summary of each leaf, in order of first appearance."""
    return [summary(series) for series in trace.series]


def summary(series: LeafSeries) -> LeafSummary:
    """Return the summary of one leaf."""
    norms = [norm for norm in series.norms if norm is not None]
    reached = sum(series.reached)
    counts = len(series.reached) - reached, reached - len(norms)
    if not norms:
        return LeafSummary(series, None, None, None, None, None, *counts)
    return LeafSummary(series, norms[0], min(norms), median(norms), max(norms), norms[-1], *counts)


def pass_rows(trace: Trace, rank: int = 0) -> dict[int, PassRow]:
    """Return what is known of each pass of a process, by index; of an older trace nothing is."""
    return {index: row for rows in trace.pass_series if rows.rank == rank for index, row in _rows(rows)}


def _rows(rows: PassSeries) -> Iterator[tuple[int, PassRow]]:
    broken = set(rows.not_finite)
    steps = [step for step, _ in rows.rates]
    scales = rows.scales or [None] * len(rows.passes)
    together = zip(rows.passes, rows.losses, rows.steps, rows.seconds, scales, strict=True)
    for index, loss, step, seconds, scale in together:
        at = bisect_right(steps, step) - 1
        rate = rows.rates[at].rate if at >= 0 else None
        yield index, PassRow(step, float("nan") if index in broken else loss, rate, seconds, scale)


def columns(trace: Trace) -> dict[str, list[Any]]:
    """Return all rows in the long format, one for each pass and leaf, as columns that pandas and polars take.

    ``norm`` is None where ``state`` is not ``finite`` or ``zero``; ``true_norm`` is the norm without the factor of a
    GradScaler (``scale``).
    """
    names = ("rank", "pass", "step", "leaf", "norm", "state", "true_norm", "scale", "loss", "learning_rate", "seconds")
    found: dict[str, list[Any]] = {name: [] for name in names}
    known = {rows.rank: pass_rows(trace, rows.rank) for rows in trace.pass_series}
    nothing = PassRow(0, None, None, 0.0, None)
    for series in trace.series:
        told = known.get(series.rank, {})
        for index, norm, reached in zip(series.passes, series.norms, series.reached, strict=True):
            row = told.get(index, nothing)
            true = norm / row.scale if norm is not None and row.scale else norm
            values = (
                series.rank, index, row.step if told else None, series.name, norm, state(norm, reached=reached), true,
                row.scale, row.loss, row.learning_rate, row.seconds if told else None,
            )  # fmt: skip
            for column, value in zip(found.values(), values, strict=True):
                column.append(value)
    return found


def update_columns(trace: Trace) -> dict[str, list[Any]]:
    """Return the weights and updates in the long format; ``ratio`` is ‖Δw‖/‖w‖, which should be near 1e-3."""
    found: dict[str, list[Any]] = {name: [] for name in ("rank", "step", "leaf", "weight", "update", "ratio", "zeros")}
    for series in trace.updates:
        for step, weight, update, zeros in zip(series.steps, series.weights, series.updates, series.zeros, strict=True):
            ratio = update / weight if update is not None and weight else None
            values = (series.rank, step, series.name, weight, update, ratio, zeros)
            for column, value in zip(found.values(), values, strict=True):
                column.append(value)
    return found


def sampled(series: LeafSeries, passes: Sequence[int]) -> list[tuple[str, float]]:
    """Return for each stretch of passes that begins at one of ``passes`` its worst state and its largest norm.

    Not finite comes before finite, finite before zero, zero before unreached; a stretch without a row is "none".
    """
    order = ("none", "unreached", "zero", "finite", "not finite")
    worst, largest = [0] * len(passes), array("d", [0.0]) * len(passes)
    for index, norm, reached in zip(series.passes, series.norms, series.reached, strict=True):
        at = max(bisect_right(passes, index) - 1, 0)
        worst[at] = max(worst[at], order.index(state(norm, reached=reached)))
        largest[at] = max(largest[at], norm or 0.0)
    return [(order[rank], norm) for rank, norm in zip(worst, largest, strict=True)]


def first_difference(before: Trace, after: Trace, rtol: float) -> Difference | None:
    """Return the first pass in which the norm of a leaf differs between two histories."""
    others = {(series.name, series.shape, series.rank): series for series in after.series}
    found: list[Difference] = []
    for series in before.series:
        other = others.get((series.name, series.shape, series.rank))
        theirs = dict(zip(other.passes, other.norms, strict=True)) if other is not None else {}
        for index, norm in zip(series.passes, series.norms, strict=True):
            if index in theirs and not _is_close(norm, theirs[index], rtol):
                found.append(Difference(index, series, norm, theirs[index]))
                break
    return min(found, key=lambda difference: difference.pass_index, default=None)


def _is_close(one: float | None, other: float | None, rtol: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= rtol * max(abs(one), abs(other))
