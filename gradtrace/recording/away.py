"""Reductions of tensors on another device: nothing waits for it until all numbers are fetched together.

Each op here is a kernel that the device runs when it has time, so there are few of them, and none whose result
Python would have to see. The gradient itself is not kept: what remains of it are some eight numbers.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from gradtrace.recording.pending import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Away", "bring", "fetch", "is_capturing", "is_here", "reduce_away"]

# The devices whose memory Python can read without waiting.
HERE = {"cpu"}
# Elements that are reduced at once: in float64 they take 32 MB, which are given back before the next.
_CHUNK = 2**22
_ANY, _NAN, _LOW, _HIGH, _TOTAL, _NONZERO, _NORM, _FIELDS = range(8)
_INF = math.inf


class Away(Pending):
    """A row of reductions for each chunk of ``size`` elements; or a copy of them all, where ``whole``."""

    __slots__ = ("__weakref__", "repeats", "scaled", "size", "whole")

    def __init__(self, tensor: torch.Tensor, size: int, repeats: int = 1, *, whole: bool = False) -> None:
        super().__init__(tensor)
        self.size = size
        self.repeats = repeats
        self.whole = whole
        self.scaled = False
        with _lock:
            _waiting.add(self)


# All that is to be brought over and that somebody still wants.
_waiting: WeakSet[Away] = WeakSet()
_lock = Lock()


def is_here(tensor: torch.Tensor) -> bool:
    """Tell whether reading the tensor makes nobody wait."""
    return tensor.device.type in HERE


def is_capturing() -> bool:
    """Tell whether a CUDA graph is being captured: what is called now runs later, and again and again."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def bring(flat: torch.Tensor) -> Away:
    """Return the few elements of a tensor of one dimension, to be brought over."""
    return Away(flat.to(_wide(flat), copy=True), flat.numel(), whole=True)


def reduce_away(flat: torch.Tensor, repeats: int) -> Away:
    """Return the reductions of a tensor of one dimension, each of whose elements stands for ``repeats``."""
    wide = _wide(flat)
    chunks = torch.split(flat, _CHUNK)
    rows = torch.empty((len(chunks), _FIELDS), dtype=wide, device=flat.device)
    away = Away(rows, flat.numel(), repeats)
    away.scaled = flat.dtype is torch.float64
    for row, chunk in zip(torch.unbind(rows), chunks, strict=True):
        _reduce(chunk.to(wide, copy=True), torch.unbind(row), scaled=away.scaled)
    return away


def _wide(flat: torch.Tensor) -> torch.dtype:
    """Return the type to reduce in: the widest that the device has."""
    if is_capturing():
        raise RuntimeError("in a CUDA graph there is nothing to measure yet")
    return torch.float32 if flat.device.type == "mps" else torch.float64


def _reduce(chunk: torch.Tensor, out: Sequence[torch.Tensor], *, scaled: bool) -> None:
    """Put the reductions of a chunk into ``out``; the chunk, a copy, is used up."""
    norm = torch.linalg.vector_norm
    norm(chunk, 0, out=out[_ANY])  # how many are not zero: NaN is not
    torch.sum(chunk.ne(chunk), 0, out=out[_NAN])
    torch.amin(chunk.nan_to_num_(_INF, _INF, _INF), 0, out=out[_LOW])
    torch.amax(chunk.nan_to_num_(0.0, -_INF, -_INF), 0, out=out[_HIGH])
    torch.sum(chunk.nan_to_num_(0.0, 0.0, 0.0), 0, out=out[_TOTAL])
    norm(chunk, 0, out=out[_NONZERO])
    if scaled:  # the squares of float64 may leave its range
        chunk.div_(torch.maximum(out[_HIGH], -out[_LOW]))
    norm(chunk, 2, out=out[_NORM])


def fetch() -> None:
    """Bring over all that was found, in one transfer for each device."""
    with _lock:
        waiting = list(_waiting)
        _waiting.clear()
    devices: dict[torch.device, list[Away]] = {}
    for away in waiting:
        if away.tensor is not None:
            devices.setdefault(away.tensor.device, []).append(away)
    for device, same in devices.items():
        if device.type != "cpu":
            torch.accelerator.synchronize(device)  # each ran on the stream of its own node
        _fetch(same)


def _fetch(same: list[Away]) -> None:
    tensors = [away.tensor.reshape(-1) for away in same if away.tensor is not None]
    numbers = torch.cat(tensors).tolist()
    start = 0
    for away, tensor in zip(same, tensors, strict=True):
        own = numbers[start : start + tensor.numel()]
        away.found = own if away.whole else _sums(away, own)
        away.tensor = None
        start += tensor.numel()


def _sums(away: Away, numbers: list[float]) -> Sums:
    """Return the reductions of the whole from those of the chunks."""
    columns = [numbers[field::_FIELDS] for field in range(_FIELDS)]
    nonzero, nan = int(sum(columns[_ANY])), int(sum(columns[_NAN]))
    broken = nonzero - int(sum(columns[_NONZERO]))
    parts = zip(columns[_NORM], columns[_LOW], columns[_HIGH], strict=True)
    norm = math.hypot(*(_unscaled(*part) if away.scaled else part[0] for part in parts))
    low, high, total = min(columns[_LOW]), max(columns[_HIGH]), sum(columns[_TOTAL])
    return Sums(away.size - broken, away.repeats, low, high, total, norm, nonzero, nan, broken - nan)


def _unscaled(norm: float, low: float, high: float) -> float:
    largest = max(high, -low)
    return norm * largest if 0 < largest < _INF else 0.0
