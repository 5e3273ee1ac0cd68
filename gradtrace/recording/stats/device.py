"""Device statistics: computed on the device, and transferred in batches so that the script never waits.

Each stream of a device has rows in its own memory. Measuring a tensor starts one kernel, which writes a row. ``send``
copies the rows written so far to host memory, followed by an event, and returns at once; when the event has happened,
``Away.take`` returns the numbers. Numbers of a device that failed or does not answer are lost: a note replaces them,
and nothing raises.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakSet, ref

import torch

from gradtrace.recording.autograd.counters import stream_is_captured
from gradtrace.recording.stats.device_kernel import BLOCKS, WIDTH, kernel_for, sums_of_row
from gradtrace.recording.stats.reductions import Pending, Sums

__all__ = [
    "DEVICE_FULL",
    "Away",
    "Broken",
    "Lost",
    "NotMeasuredError",
    "Transfer",
    "give_up",
    "is_accelerator",
    "is_here",
    "keep_norms",
    "reduce_away",
    "require_measurable",
    "send",
    "values_away",
]

# Rows of a stream; when all are written they are sent, and then reused.
_ROWS = 4096
# Seconds to wait for a device when its numbers are requested.
PATIENCE = 60.0
DEVICE_FULL = "the memory of the device is full"


class NotMeasuredError(RuntimeError):
    """A tensor that can't be measured now, and why."""


class Lost(NamedTuple):
    """Replaces numbers that are lost, and says why."""

    reason: str


class Broken(NamedTuple):
    """Replaces numbers: at least this many elements are not finite."""

    nan: int
    inf: int


class _Numbers:
    """Numbers in a batch: from row ``start`` on, or a tensor until it is sent with others of its dtype."""

    __slots__ = ("__weakref__", "batch", "count", "dtype", "start", "tensor")

    def __init__(self, batch: _Batch, start: int, count: int, tensor: torch.Tensor | None = None) -> None:
        self.batch, self.start, self.count, self.tensor = batch, start, count, tensor
        self.dtype = None if tensor is None else tensor.dtype
        if tensor is not None:
            batch.tensors.append(ref(self))

    def read(self) -> list[float]:
        """Return the numbers, which have arrived."""
        found: list[float] = self.batch.hosts[self.dtype][self.start : self.start + self.count].tolist()
        return found


class _Batch:
    """Numbers computed on one stream since the last transfer: rows, and separate tensors."""

    def __init__(self, stream: torch.Stream, before: _Batch | None) -> None:
        self.stream = stream
        # Reusing the rows is safe: a stream is in order, so they are copied before they are written again.
        memory = _memory(stream.device) if before is None else (before.rows, before.scratch)
        self.rows: torch.Tensor = memory[0]
        self.scratch: torch.Tensor = memory[1]
        self.written = 0
        self.tensors: list[ref[_Numbers]] = []
        self.hosts: dict[torch.dtype | None, torch.Tensor] = {}
        self.lost = ""
        self._event: torch.Event | None = None

    @property
    def is_used(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.written or self.tensors)

    def send(self) -> None:
        """Start to copy everything still needed to the host."""
        _sent.add(self)
        try:
            with self.stream:
                if self.written:
                    self.hosts[None] = _to_host(self.rows[: self.written].view(-1))
                for dtype, tensors in self._by_dtype().items():
                    self.hosts[dtype] = _to_host(torch.cat(tensors))
                self._event = torch.Event(self.stream.device)
                self._event.record(self.stream)
        except RuntimeError as error:
            self.lose(str(error))

    def _by_dtype(self) -> dict[torch.dtype, list[torch.Tensor]]:
        found: dict[torch.dtype, list[torch.Tensor]] = {}
        ends: dict[torch.dtype, int] = {}
        for reference in self.tensors:
            numbers = reference()
            if numbers is None or numbers.tensor is None:
                continue
            flat, numbers.tensor = numbers.tensor.reshape(-1), None
            found.setdefault(flat.dtype, []).append(flat)
            numbers.start = ends.get(flat.dtype, 0)
            ends[flat.dtype] = numbers.start + numbers.count
        return found

    def has_arrived(self) -> bool:
        """Tell whether the numbers can be read, or are lost; without waiting."""
        try:
            return bool(self.lost) or (self._event is not None and self._event.query())
        except RuntimeError as error:
            self.lose(str(error))
            return True

    def lose(self, reason: str) -> None:
        """Note why the numbers are lost."""
        self.lost = self.lost or reason.strip().partition("\n")[0]


class Away(Pending):
    """Numbers on a device, and how to read them when they have arrived."""

    __slots__ = ("_numbers", "_read")

    def __init__(self, read: Callable[[list[float]], Any], *numbers: _Numbers) -> None:
        super().__init__(None)
        self._numbers = numbers
        self._read = read

    def take(self) -> Any:
        """Return the numbers, or Lost; waits for them if necessary."""
        batches = {numbers.batch for numbers in self._numbers}
        if not all(batch.has_arrived() for batch in batches):
            send().wait()
        lost = next((batch.lost for batch in batches if batch.lost), "")
        return Lost(lost) if lost else self._read([number for some in self._numbers for number in some.read()])


class Transfer:
    """Transfer of numbers to the host."""

    def __init__(self, batches: list[_Batch]) -> None:
        self._batches = batches

    @property
    def has_arrived(self) -> bool:
        """Whether all of them can be read, or are lost."""
        self._batches = [batch for batch in self._batches if not batch.has_arrived()]
        return not self._batches

    def wait(self) -> None:
        """Wait until they have arrived; those that do not arrive in time, or before Ctrl-C, are lost."""
        end, pause = time.monotonic() + PATIENCE, 1e-5
        reason = "waiting for the device was interrupted"
        try:
            while not self.has_arrived and time.monotonic() < end:
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
            reason = f"the device did not answer within {PATIENCE:g} seconds"
        finally:
            for batch in self._batches:
                batch.lose(reason)


# By index of device and stream: only one type of device is torch's accelerator.
_open: dict[tuple[int, int], _Batch] = {}
_sent: WeakSet[_Batch] = WeakSet()
_lock = RLock()
_gave_up = ""


def is_here(tensor: torch.Tensor) -> bool:
    """Tell whether the tensor can be read without waiting."""
    return tensor.device.type == "cpu"


def is_accelerator(kind: str) -> bool:
    """Tell whether tensors on devices of this type can be measured there."""
    found = torch.accelerator.current_accelerator()
    return found is not None and found.type == kind


def give_up(reason: str) -> None:
    """Measure nothing more on devices: gradtrace must not be the reason why the script runs out of memory."""
    global _gave_up  # noqa: PLW0603 - one for the process, as its devices are
    _gave_up = reason


def require_measurable(device: torch.device) -> None:
    """Raise NotMeasuredError where nothing may be started on the device now, not even a copy."""
    if _gave_up:
        raise NotMeasuredError(_gave_up)
    if stream_is_captured(_module(device.type)):
        raise NotMeasuredError("in a graph that is being captured, there is nothing to measure yet")


@cache
def _module(kind: str) -> Any:
    return torch.get_device_module(kind)


def values_away(tensor: torch.Tensor) -> Away:
    """Return the few elements of a tensor, in order."""
    count = tensor.numel()
    with _lock:
        batch, row = _new_row(tensor.device)
        batch.rows[row, :count].view(tensor.shape).copy_(tensor)
    return Away(list, _Numbers(batch, row * WIDTH, count))


def reduce_away(flat: torch.Tensor, repeats: int) -> Away:
    """Return the reductions of a one-dimensional tensor, whose elements count ``repeats`` times each."""
    kernel = kernel_for(flat.device, flat.dtype)
    if kernel is None:
        return _reduce_by_torch(flat, repeats)
    with _lock:
        batch, row = _new_row(flat.device)
        kernel(flat, batch.rows, row, batch.scratch)
    return Away(partial(sums_of_row, flat.numel(), repeats), _Numbers(batch, row * WIDTH, WIDTH))


def _reduce_by_torch(flat: torch.Tensor, repeats: int) -> Away:
    """Return the reductions by four torch kernels that make no copy; they do not count non-finite elements."""
    wide = None if flat.dtype is torch.float64 else torch.float32
    norm, count = (torch.linalg.vector_norm(flat, order, dtype=wide) for order in (2, 0))
    found = norm, count, flat.sum(dtype=wide), *flat.aminmax()
    with _lock:
        batch = _batch(flat.device)
        return Away(partial(_sums, flat.numel(), repeats), *[_Numbers(batch, 0, 1, tensor) for tensor in found])


def _sums(size: int, repeats: int, found: list[float]) -> Sums | Broken:
    norm, count, total, low, high = found
    if not math.isfinite(low) or not math.isfinite(high):
        return Broken(int(math.isnan(low)), int(not math.isnan(low)))
    return Sums(size, repeats, low, high, total, norm, min(round(count), size))


def keep_norms(grads: list[torch.Tensor]) -> list[tuple[Away, int]]:
    """Return the norm of each gradient, as numbers and a position in them; one batch for each device."""
    groups: dict[tuple[torch.device, bool], list[int]] = {}
    for at, grad in enumerate(grads):
        groups.setdefault((grad.device, grad.dtype is torch.float64), []).append(at)
    places: dict[int, tuple[Away, int]] = {}
    for (device, is_wide), members in groups.items():
        wide = None if is_wide else torch.float32
        norms = torch.stack(torch._foreach_norm([grads[at] for at in members], 2, dtype=wide))
        with _lock:
            away = Away(list, _Numbers(_batch(device), 0, len(members), norms))
        places.update({at: (away, place) for place, at in enumerate(members)})
    return [places[at] for at in range(len(grads))]


def send() -> Transfer:
    """Start to transfer all numbers computed so far, without waiting for them."""
    with _lock:
        for key, batch in _open.items():
            if batch.is_used:
                _open[key] = _Batch(batch.stream, batch)
                batch.send()
        return Transfer(list(_sent))


def _new_row(device: torch.device) -> tuple[_Batch, int]:
    """Return a row, to be written before the lock is released: otherwise it could be sent before."""
    batch = _batch(device)
    batch.written += 1
    return batch, batch.written - 1


def _batch(device: torch.device) -> _Batch:
    """Return the batch of the current stream of this thread."""
    stream = torch._C._accelerator_getStream(device.index)  # a tenth of the time of torch.accelerator.current_stream
    key = stream.device_index, stream.stream_id
    batch = _open.get(key)
    if batch is None or batch.written == _ROWS:
        if batch is not None:
            batch.send()
        batch = _open[key] = _Batch(stream, batch)
    return batch


def _memory(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of a stream, and the scratch memory of its kernels."""
    dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
    with torch.inference_mode(False):  # noqa: FBT003 - in which it may be made, and could not be written outside
        rows = torch.empty((_ROWS, WIDTH), dtype=dtype, device=device)
        return rows, torch.zeros((BLOCKS + 1, WIDTH), dtype=dtype, device=device)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """Start to copy a one-dimensional tensor to host memory, without making the device wait if possible."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=_can_pin(tensor.device.type))
    return host.copy_(tensor, non_blocking=True)


@cache
def _can_pin(_kind: str) -> bool:
    with suppress(RuntimeError):
        torch.empty(1, device="cpu", pin_memory=True)
        return True
    return False
