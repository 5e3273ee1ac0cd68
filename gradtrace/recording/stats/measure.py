"""Measurements of tensors: taken while the script runs, turned into TensorStats afterwards.

This runs inside hooks, once per gradient, so it is written for speed. A tensor of up to 16 elements is read with one
``tolist()`` and reduced later in Python; a larger one is reduced at once. On another device nothing is read: the
numbers stay there until the pass has ended, because reading one would make the script wait for the device.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from gradtrace.model import NOT_MEASURED, TensorStats
from gradtrace.recording.distributed.dtensor import local_part
from gradtrace.recording.isolation.hidden import call_hidden, is_watched
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.device import DEVICE_FULL, NotMeasuredError, give_up, is_accelerator, is_here
from gradtrace.recording.stats.kinds import Measured, TensorKind, placed
from gradtrace.recording.stats.reduce import (
    COMPILED_TYPES,
    copy,
    readable,
    reduce,
    reduce_on_device,
    reduce_strided,
    runs_of,
    values_on_device,
)
from gradtrace.recording.stats.reductions import MAX_VALUES, Sums
from gradtrace.recording.stats.routes import Route
from gradtrace.recording.stats.special_tensors import measure_special

__all__ = ["address", "is_shareable", "kind_of", "measure", "same_memory", "unmeasured"]

# Without the C kernel, copying more than this takes longer than reducing it at once.
_MAX_COPIED = 4096
_MANY_KINDS = 10_000
_REAL = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
_PLAIN = {torch.Tensor, torch.nn.Parameter}

_REDUCERS = {
    Route.SMALL_DEVICE: values_on_device,
    Route.DEVICE: reduce_on_device,
    Route.NATIVE: reduce_strided,
    Route.BATCHED_COPY: copy,
    Route.TORCH: reduce,
}


_kinds: dict[tuple[torch.Size, torch.dtype, torch.device | str], TensorKind] = {}


def measure_in_python(tensor: torch.Tensor) -> Measured:
    """Return the measurement of ``tensor``, which is neither changed nor kept."""
    if is_watched():
        return call_hidden(_measure, tensor)
    return _measure(tensor)


def _measure(tensor: torch.Tensor) -> Measured:
    try:
        if type(tensor) in _PLAIN:
            # Reading and hashing a device takes longer than everything else here.
            place = "cpu" if tensor.is_cpu else tensor.device
            kind = _kinds.get((tensor.shape, tensor.dtype, place)) or _new_kind(tensor)
            route = kind.route
            if route == Route.SMALL_CPU:
                return [kind, readable(tensor).tolist()]
            if route != Route.SPECIAL and tensor.layout is torch.strided:
                return [kind, _REDUCERS[route](tensor)]
        part = local_part(tensor)
        if part is not None:
            return _shared(tensor, *part)
    except NotMeasuredError as reason:
        return unmeasured(tensor, f"{NOT_MEASURED}{reason}")
    except torch.OutOfMemoryError:
        give_up(DEVICE_FULL)
        return unmeasured(tensor, NOT_MEASURED + DEVICE_FULL)
    except (RuntimeError, NotImplementedError, TypeError):
        pass  # wrapped tensors of torch.func look like plain ones until they are read
    stats = measure_special(tensor)
    return [TensorKind(stats.shape, stats.dtype, stats.device, Route.SPECIAL), stats]


def _shared(tensor: torch.Tensor, local: torch.Tensor, placement: str) -> Measured:
    """Return the measurement of the local part of a DTensor."""
    kind, found = _measure(local)
    kind = kind._replace(whole=tuple(map(int, tensor.shape)), placement=placement)
    return [kind, placed(kind, found) if type(found) is TensorStats else found]


measure = measure_in_python if NATIVE is None else NATIVE.measure


def kind_of(tensor: torch.Tensor) -> Measured:
    """Return the kind of a tensor, without a measurement."""
    if type(tensor) not in _PLAIN or tensor.layout is not torch.strided:
        return measure(tensor)
    place = "cpu" if tensor.is_cpu else tensor.device
    return [_kinds.get((tensor.shape, tensor.dtype, place)) or _new_kind(tensor), None]


def unmeasured(tensor: Any, note: str) -> Measured:
    """Return a measurement without numbers, of a tensor or any object with shape, dtype and device."""
    shape, dtype = tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch.")
    device = str(tensor.device)
    return [TensorKind(shape, dtype, device, Route.SPECIAL), TensorStats(shape, dtype, device, zeros=None, note=note)]


def is_shareable(measured: Measured) -> bool:
    """Tell whether this measurement is also valid for a view of the same elements."""
    return bool(measured[0].route >= Route.DEVICE)


def same_memory(tensor: torch.Tensor, other: torch.Tensor, measured: Measured) -> Measured | None:
    """Return the measurement of ``other`` as one of ``tensor``, if both have the same elements."""
    if measured[0].route < Route.DEVICE:
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
    """Return the address of the first element, or 0 for a tensor without memory of its own."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _new_kind(tensor: torch.Tensor) -> TensorKind:
    if len(_kinds) > _MANY_KINDS:
        _kinds.clear()
    shape = tuple(int(size) for size in tensor.shape)
    # Interned strings, identical to the defaults of TensorStats, are omitted from the file.
    dtype, device = sys.intern(str(tensor.dtype).removeprefix("torch.")), sys.intern(str(tensor.device))
    kind = TensorKind(shape, dtype, device, _route(tensor))
    _kinds[tensor.shape, tensor.dtype, "cpu" if tensor.is_cpu else tensor.device] = kind
    return kind


def _route(tensor: torch.Tensor) -> Route:
    if tensor.dtype not in _REAL or not (is_here(tensor) or is_accelerator(tensor.device.type)):
        return Route.SPECIAL
    if not is_here(tensor):
        return Route.SMALL_DEVICE if tensor.numel() <= MAX_VALUES else Route.DEVICE
    if tensor.numel() <= MAX_VALUES:
        return Route.SMALL_CPU
    if tensor.dtype in COMPILED_TYPES:
        return Route.NATIVE
    return Route.BATCHED_COPY if tensor.numel() <= _MAX_COPIED else Route.TORCH


if NATIVE is not None:
    NATIVE.setup(
        Tensor=torch.Tensor,
        Parameter=torch.nn.Parameter,
        strided=torch.strided,
        float32=torch.float32,
        float64=torch.float64,
        bfloat16=torch.bfloat16,
        kinds=_kinds,
        SMALL_CPU=Route.SMALL_CPU,
        DEVICE=Route.DEVICE,
        NATIVE_ROUTE=Route.NATIVE,
        Sums=Sums,
        new_tuple=tuple.__new__,
        measure_in_python=measure_in_python,
        same_memory=same_memory,
        has_dispatch_modes=torch._C._len_torch_dispatch_stack,
        has_modes=torch._C._len_torch_function_stack,
        profiler=vars(torch.autograd.profiler),
        tracing_state=torch._C._get_tracing_state,
    )
