"""Statistics of tensors: measured while the script runs, turned into TensorStats when it no longer does.

Measuring happens inside hooks, once per gradient, so it is written for speed. A tensor of up to 16
elements is read with one ``tolist()`` and reduced later in Python; a larger one is reduced at once. On
another device nothing is read at all: the numbers stay there until the pass has ended, because reading one
would make the script wait for the device.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.model import TensorStats
from gradtrace.recording.away import is_here
from gradtrace.recording.native import NATIVE
from gradtrace.recording.pending import MAX_VALUES, Pending, Sums
from gradtrace.recording.reduction import (
    COMPILED_TYPES,
    bring_all,
    copy,
    readable,
    reduce,
    reduce_compiled,
    reduce_elsewhere,
    runs_of,
    settle,
)
from gradtrace.recording.special import measure_special
from gradtrace.recording.unseen import apart, is_watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Values

__all__ = [
    "Kind",
    "Measured",
    "address",
    "finish",
    "is_shareable",
    "kind_of",
    "measure",
    "norm_of",
    "same_memory",
    "unmeasured",
]

# Without a kernel, copying more than this costs more than reducing it at once.
_MAX_COPIED = 4096
_MANY_KINDS = 10_000
# The default itself: as it is the same object, it is left out of the file.
NO_ZEROS: float = TensorStats.__struct_defaults__[-5]
_REAL = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
_PLAIN = {torch.Tensor, torch.nn.Parameter}

# How a kind of tensor is measured: those from AWAY on do not depend on the order of dimensions.
READ, BRING, SPECIAL, AWAY, COMPILED, COPY, REDUCE = range(7)
_REDUCERS = {BRING: bring_all, AWAY: reduce_elsewhere, COMPILED: reduce_compiled, COPY: copy, REDUCE: reduce}


class Kind(NamedTuple):
    """What a tensor is, apart from its elements."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    route: int


# What was measured of one tensor: its kind, and its values, sums, something pending, or TensorStats.
# A plain list: there are several for each op of the script, and what is found takes the place of what it is from.
Measured = list[Any]

_kinds: dict[tuple[torch.Size, torch.dtype, torch.device | str], Kind] = {}


def measure_slowly(tensor: torch.Tensor) -> Measured:
    """Return the measurements of ``tensor``, which is neither changed nor kept."""
    if is_watched():
        return apart(_measure, tensor)
    return _measure(tensor)


def _measure(tensor: torch.Tensor) -> Measured:
    try:
        if type(tensor) in _PLAIN:
            # A device takes longer to read and to hash than all the rest.
            place = "cpu" if tensor.is_cpu else tensor.device
            kind = _kinds.get((tensor.shape, tensor.dtype, place)) or _new_kind(tensor)
            route = kind.route
            if route == READ:
                return [kind, readable(tensor).tolist()]
            if route != SPECIAL and tensor.layout is torch.strided:
                return [kind, _REDUCERS[route](tensor)]
    except (RuntimeError, NotImplementedError, TypeError):
        pass  # wrapped tensors of torch.func look like plain ones until they are read
    stats = measure_special(tensor)
    return [Kind(stats.shape, stats.dtype, stats.device, SPECIAL), stats]


measure = measure_slowly if NATIVE is None else NATIVE.measure


def kind_of(tensor: torch.Tensor) -> Measured:
    """Return what a tensor is, without a measurement of it."""
    if type(tensor) not in _PLAIN or tensor.layout is not torch.strided:
        return measure(tensor)
    place = "cpu" if tensor.is_cpu else tensor.device
    return [_kinds.get((tensor.shape, tensor.dtype, place)) or _new_kind(tensor), None]


def unmeasured(tensor: Any, note: str) -> Measured:
    """Return what stands for the numbers of a tensor, or of what tells its shape, dtype and device."""
    shape, dtype = tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch.")
    device = str(tensor.device)
    return [Kind(shape, dtype, device, SPECIAL), TensorStats(shape, dtype, device, zeros=None, note=note)]


def is_shareable(measured: Measured) -> bool:
    """Tell whether this may stand for a view of the same elements, too."""
    return bool(measured[0].route >= AWAY)


def same_memory(tensor: torch.Tensor, other: torch.Tensor, measured: Measured) -> Measured | None:
    """Return what was measured of ``other`` as a measurement of ``tensor``, if both are the same elements."""
    if measured[0].route < AWAY:
        return measured if tensor is other else None
    if tensor is other:
        return measured
    if tensor.layout is not torch.strided or type(tensor) not in _PLAIN:
        return None
    if address(tensor) != address(other) or tensor.numel() != other.numel() or tensor.dtype is not other.dtype:
        return None
    if type(measured[1]) is TensorStats or runs_of(tensor) != runs_of(other):
        return None
    place = "cpu" if tensor.is_cpu else tensor.device
    return [_kinds.get((tensor.shape, tensor.dtype, place)) or _new_kind(tensor), measured[1]]


def address(tensor: torch.Tensor) -> int:
    """Return where the elements begin in memory, or 0 for a tensor that has none of its own."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _new_kind(tensor: torch.Tensor) -> Kind:
    if len(_kinds) > _MANY_KINDS:
        _kinds.clear()
    shape = tuple(int(size) for size in tensor.shape)
    # Interned, they are the very strings that TensorStats has as defaults, which are then left out of the file.
    dtype, device = sys.intern(str(tensor.dtype).removeprefix("torch.")), sys.intern(str(tensor.device))
    kind = Kind(shape, dtype, device, _route(tensor))
    _kinds[tensor.shape, tensor.dtype, "cpu" if tensor.is_cpu else tensor.device] = kind
    return kind


def _route(tensor: torch.Tensor) -> int:
    if tensor.dtype not in _REAL or tensor.device.type == "meta":
        return SPECIAL
    if not is_here(tensor):
        return BRING if tensor.numel() <= MAX_VALUES else AWAY
    if tensor.numel() <= MAX_VALUES:
        return READ
    if tensor.dtype in COMPILED_TYPES:
        return COMPILED
    return COPY if tensor.numel() <= _MAX_COPIED else REDUCE


if NATIVE is not None:
    NATIVE.setup(
        Tensor=torch.Tensor,
        Parameter=torch.nn.Parameter,
        strided=torch.strided,
        float32=torch.float32,
        float64=torch.float64,
        bfloat16=torch.bfloat16,
        kinds=_kinds,
        READ=READ,
        AWAY=AWAY,
        COMPILED=COMPILED,
        Sums=Sums,
        new_tuple=tuple.__new__,
        measure_slowly=measure_slowly,
        same_memory=same_memory,
        has_dispatch_modes=torch._C._len_torch_dispatch_stack,
        has_modes=torch._C._len_torch_function_stack,
        profiler=vars(torch.autograd.profiler),
        tracing_state=torch._C._get_tracing_state,
    )


def finish(measured: Measured) -> TensorStats:
    """Return the statistics of a measured tensor, the same object each time."""
    found = measured[1]
    if type(found) is not TensorStats:
        found = measured[1] = _finish(measured)
    return found


def norm_of(measured: Measured) -> float | None:
    """Return the norm of a measured tensor; of a loop of many passes no more is asked."""
    found = measured[1]
    if type(found) is not Sums or found.repeats != 1:
        return finish(measured).norm
    return _in_range(found.norm) if found.finite else None


def _finish(measured: Measured) -> TensorStats:
    kind, found = measured
    if isinstance(found, float) and math.isfinite(found):  # by far the most common in scripts of scalars
        norm = found if found > 0 else abs(found)
        return TensorStats(
            kind.shape, kind.dtype, kind.device, norm, found, found, found, NO_ZEROS if found else 1.0, values=found
        )
    if isinstance(found, Pending):
        if found.found is None:
            settle([measured])
        found = _nest(found.found, kind.shape) if kind.route == BRING else found.found
    return _from_sums(kind, found) if isinstance(found, Sums) else _from_values(kind, found)


def _from_values(kind: Kind, values: Any) -> TensorStats:
    flat = list(_flatten(values))
    finite = [x for x in flat if math.isfinite(x)]
    nan = sum(map(math.isnan, flat))
    count = len(finite)
    return TensorStats(
        kind.shape,
        kind.dtype,
        kind.device,
        _in_range(math.hypot(*finite)) if count or not flat else None,
        _mean(finite) if count else None,
        min(finite, default=None),
        max(finite, default=None),
        flat.count(0) / len(flat) if 0 in flat else NO_ZEROS,
        nan,
        len(flat) - count - nan,
        values if count == len(flat) else _finite_only(values),
    )


def _in_range(number: float) -> float | None:
    """Return the number, or None where it is larger than float64 can hold."""
    return number if math.isfinite(number) else None


def _mean(finite: list[float]) -> float:
    try:
        return math.fsum(finite) / len(finite)
    except OverflowError:
        return math.fsum(x / len(finite) for x in finite)


def _flatten(values: Any) -> Iterator[float]:
    if not isinstance(values, list):
        yield values
        return
    for value in values:
        yield from _flatten(value)


def _finite_only(values: Any) -> Values:
    if isinstance(values, list):
        return [_finite_only(value) for value in values]
    return values if math.isfinite(values) else None


def _from_sums(kind: Kind, sums: Sums) -> TensorStats:
    known = sums.finite > 0
    size = sums.finite + sums.nan + sums.inf
    return TensorStats(
        kind.shape,
        kind.dtype,
        kind.device,
        _in_range(sums.norm * math.sqrt(sums.repeats)) if known else None,
        _in_range(sums.total / sums.finite) if known else None,
        sums.low if known else None,
        sums.high if known else None,
        1 - sums.nonzero / size if sums.nonzero < size else NO_ZEROS,
        sums.nan * sums.repeats,
        sums.inf * sums.repeats,
    )


def _nest(flat: list[float], shape: tuple[int, ...]) -> Any:
    """Return ``flat`` nested like a tensor of this shape (a bare number for a 0-d one)."""
    if not shape:
        return flat[0]
    step = math.prod(shape[1:])
    return [_nest(flat[start * step : (start + 1) * step], shape[1:]) for start in range(shape[0])]
