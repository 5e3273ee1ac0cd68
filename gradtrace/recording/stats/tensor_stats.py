"""TensorStats from measurements, after the script has run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec.structs import fields

from gradtrace.model import LOST, TensorStats
from gradtrace.recording.stats.device import Away, Broken, Lost
from gradtrace.recording.stats.kinds import Measured, TensorKind, placed
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.reductions import Pending, Sums
from gradtrace.recording.stats.routes import Route

if TYPE_CHECKING:
    from gradtrace.model import Values

__all__ = ["NO_ZEROS", "norm_of", "to_stats"]

# The default object itself: an identical object is omitted from the file.
NO_ZEROS: float = next(field.default for field in fields(TensorStats) if field.name == "zeros")


def to_stats(measured: Measured) -> TensorStats:
    """Return the statistics of a measured tensor, the same object each time."""
    found = measured[1]
    if type(found) is not TensorStats:
        found = _finish(measured)
        found = measured[1] = found if measured[0].whole is None else placed(measured[0], found)
    return found


def norm_of(measured: Measured) -> float | None:
    """Return the norm of a measured tensor, without its other statistics."""
    found = measured[1]
    if type(found) is not Sums or found.repeats != 1:
        return to_stats(measured).norm
    return _in_range(found.norm) if found.finite else None


def _finish(measured: Measured) -> TensorStats:
    kind, found = measured
    if isinstance(found, float) and math.isfinite(found):  # the most common case in scripts of scalars
        norm = found if found > 0 else abs(found)
        return TensorStats(
            kind.shape, kind.dtype, kind.device, norm, found, found, found, NO_ZEROS if found else 1.0, values=found
        )
    if isinstance(found, Away):
        found = found.take()
        if isinstance(found, (Lost, Broken)):
            return _without_numbers(kind, found)
        found = _nest(found, kind.shape) if kind.route is Route.SMALL_DEVICE else found
    elif isinstance(found, Pending):
        if found.found is None:
            reduce_pending([measured])
        found = found.found
    return _from_sums(kind, found) if isinstance(found, Sums) else _from_values(kind, found)


def _without_numbers(kind: TensorKind, found: Lost | Broken) -> TensorStats:
    """Return the statistics of a tensor whose device reported no numbers, or only that some are not finite."""
    if isinstance(found, Lost):
        return TensorStats(kind.shape, kind.dtype, kind.device, zeros=None, note=f"{LOST}{found.reason}")
    note = "not finite; of how many elements is not counted on this device"
    return TensorStats(kind.shape, kind.dtype, kind.device, zeros=None, nan=found.nan, inf=found.inf, note=note)


def _from_values(kind: TensorKind, values: Any) -> TensorStats:
    flat = _flattened(values)
    finite = flat if all(map(math.isfinite, flat)) else [x for x in flat if math.isfinite(x)]
    count = len(finite)
    nan = sum(map(math.isnan, flat)) if count < len(flat) else 0
    return TensorStats(
        kind.shape,
        kind.dtype,
        kind.device,
        _in_range(math.hypot(*finite)) if count or not flat else None,
        _mean(finite) if count else None,
        min(finite) if count else None,
        max(finite) if count else None,
        flat.count(0) / len(flat) if 0 in flat else NO_ZEROS,
        nan,
        len(flat) - count - nan,
        values if count == len(flat) else _finite_only(values),
    )


def _in_range(number: float) -> float | None:
    """Return the number, or None if it is beyond the range of float64."""
    return number if math.isfinite(number) else None


def _mean(finite: list[float]) -> float:
    try:
        return math.fsum(finite) / len(finite)
    except OverflowError:
        return math.fsum(x / len(finite) for x in finite)


def _flattened(values: Any) -> list[float]:
    flat = values if isinstance(values, list) else [values]
    while flat and isinstance(flat[0], list):  # all lists of a tensor are equally deep
        flat = [value for inner in flat for value in inner]
    return flat


def _finite_only(values: Any) -> Values:
    if isinstance(values, list):
        return [_finite_only(value) for value in values]
    return values if math.isfinite(values) else None


def _from_sums(kind: TensorKind, sums: Sums) -> TensorStats:
    finite, repeats, low, high, total, norm, nonzero, nan, inf = sums
    size = finite + nan + inf
    zeros = 1 - nonzero / size if nonzero < size else NO_ZEROS
    what = kind.shape, kind.dtype, kind.device
    if not finite:
        return TensorStats(*what, None, None, None, None, zeros, nan * repeats, inf * repeats)
    norm = norm if repeats == 1 else norm * math.sqrt(repeats)
    return TensorStats(
        *what, _in_range(norm), _in_range(total / finite), low, high, zeros, nan * repeats, inf * repeats
    )


def _nest(flat: list[float], shape: tuple[int, ...]) -> Any:
    """Return ``flat`` nested according to a shape (a bare number for a 0-d tensor)."""
    if not shape:
        return flat[0]
    step = math.prod(shape[1:])
    return [_nest(flat[start * step : (start + 1) * step], shape[1:]) for start in range(shape[0])]
