"""Reductions of tensors on another device: nothing waits for it until all numbers are fetched together.

Each op here is a kernel that the device runs when it has time, so there are few of them, and none whose result
Python would have to see. Starting one takes longer than running it; so a tensor is copied, which is one, beside
others of its size, and they are reduced together. What remains of each are some eight numbers.
"""

from __future__ import annotations

import itertools
import math
import weakref
from threading import RLock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from gradtrace.recording.autograd.counters import is_capturing
from gradtrace.recording.stats.reductions import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Away", "bring", "fetch", "is_here", "reduce_away"]

# The devices whose memory Python can read without waiting.
HERE = {"cpu"}
# Elements that are reduced at once: in float64 they take 8 MB, which are given back before the next.
_CHUNK = 2**20
_ROWS = 256
_ANY, _NAN, _LOW, _HIGH, _TOTAL, _NONZERO, _NORM, _FIELDS = range(8)
_INF = math.inf


class Away(Pending):
    """Some rows of reductions, from ``start`` on, of ``size`` elements in all; or a copy of them, where ``whole``."""

    __slots__ = ("__weakref__", "repeats", "rows", "size", "start", "whole")

    def __init__(self, size: int, repeats: int = 1, rows: int = 1, *, whole: bool = False) -> None:
        super().__init__(None)
        self.size = size
        self.repeats = repeats
        self.start = 0
        self.rows = rows
        self.whole = whole
        _waiting.add(self)


class Batch:
    """Copies of tensors of one size and type, made on one stream of a device, which wait to be reduced together."""

    def __init__(self, flat: torch.Tensor) -> None:
        count = max(min(_ROWS, _CHUNK // flat.numel()), 1)
        with torch.inference_mode(False):  # noqa: FBT003 - in which it may be made, and could not be written outside
            self._copies = torch.empty((count, flat.numel()), dtype=flat.dtype, device=flat.device)
        self._rows = torch.unbind(self._copies)
        self._taken: list[weakref.ref[Away]] = []

    def add(self, flat: torch.Tensor, away: Away) -> None:
        """Copy a tensor."""
        self._rows[len(self._taken)].copy_(flat)
        self._taken.append(weakref.ref(away))
        if len(self._taken) == len(self._rows):
            self.reduce()

    def reduce(self) -> None:
        """Start to reduce all copies, and have room again."""
        taken, self._taken = self._taken, []
        rows = _reduced(self._copies[: len(taken)]) if taken else None
        for start, reference in enumerate(taken):
            away = reference()
            if away is not None:
                away.tensor, away.start = rows, start


# All that is to be brought over and that somebody still wants.
_waiting: WeakSet[Away] = WeakSet()
# By device, stream, type and size.
_batches: dict[tuple[Any, ...], Batch] = {}
_lock = RLock()


def is_here(tensor: torch.Tensor) -> bool:
    """Tell whether reading the tensor makes nobody wait."""
    return tensor.device.type in HERE


def bring(flat: torch.Tensor) -> Away:
    """Return the few elements of a tensor of one dimension, to be brought over."""
    copy = flat.to(_wide(flat), copy=True)
    with _lock:
        away = Away(flat.numel(), whole=True)
        away.tensor = copy
    return away


def reduce_away(flat: torch.Tensor, repeats: int) -> Away:
    """Return what will be the reductions of a tensor of one dimension, whose elements stand there ``repeats`` times."""
    _wide(flat)
    if flat.numel() > _CHUNK:
        rows = [_reduced(chunk.unsqueeze(0)) for chunk in torch.split(flat, _CHUNK)]
        with _lock:
            away = Away(flat.numel(), repeats, len(rows))
            away.tensor = torch.cat(rows)
        return away
    key = flat.device, _stream(flat.device), flat.dtype, flat.numel()
    with _lock:
        away = Away(flat.numel(), repeats)
        batch = _batches.get(key)
        if batch is None:
            batch = _batches[key] = Batch(flat)
        batch.add(flat, away)
    return away


def _stream(device: torch.device) -> int:
    """Return the stream on which kernels run now: what one does, another does not wait for."""
    return torch._C._cuda_getCurrentRawStream(device.index) if device.type == "cuda" else 0


def _wide(flat: torch.Tensor) -> torch.dtype:
    """Return the type to reduce in: the widest that the device has."""
    if flat.is_cuda and is_capturing():
        raise RuntimeError("in a CUDA graph there is nothing to measure yet")
    return torch.float32 if flat.device.type == "mps" else torch.float64


def _reduced(copies: torch.Tensor) -> torch.Tensor:
    """Return the reductions of each row."""
    wide = copies.to(_wide(copies), copy=True)
    rows = torch.empty((len(wide), _FIELDS), dtype=wide.dtype, device=wide.device)
    _reduce(wide, torch.unbind(rows, 1), scaled=copies.dtype is torch.float64)
    return rows


def _reduce(rows: torch.Tensor, out: Sequence[torch.Tensor], *, scaled: bool) -> None:
    """Put the reductions of each row into ``out``; the rows, a copy, are used up."""
    norm = torch.linalg.vector_norm
    norm(rows, 0, 1, out=out[_ANY])  # how many are not zero: NaN is not
    torch.sum(rows.ne(rows), 1, out=out[_NAN])
    torch.amin(rows.nan_to_num_(_INF, _INF, _INF), 1, out=out[_LOW])
    torch.amax(rows.nan_to_num_(0.0, -_INF, -_INF), 1, out=out[_HIGH])
    torch.sum(rows.nan_to_num_(0.0, 0.0, 0.0), 1, out=out[_TOTAL])
    norm(rows, 0, 1, out=out[_NONZERO])
    if not scaled:
        norm(rows, 2, 1, out=out[_NORM])
        return
    # The squares of float64 may leave its range.
    largest = torch.maximum(out[_HIGH], -out[_LOW]).clamp_min_(torch.finfo(rows.dtype).tiny)
    norm(rows.div_(largest.unsqueeze(1)), 2, 1, out=out[_NORM])
    out[_NORM].mul_(largest)


def fetch() -> None:
    """Bring over all that was found, in one transfer for each device."""
    with _lock:
        waiting, batches = list(_waiting), dict(_batches)
        _waiting.clear()
        _batches.clear()
    devices = {key[0] for key in batches} | {away.tensor.device for away in waiting if away.tensor is not None}
    for device in devices:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)  # each ran on the stream of its own node
    for batch in batches.values():
        batch.reduce()
    for device in devices:
        same = [away for away in waiting if away.tensor is not None and away.tensor.device == device]
        if same:  # else whoever wanted them is gone
            _fetch(same)


def _fetch(same: list[Away]) -> None:
    found = {id(away.tensor): away.tensor for away in same if away.tensor is not None}
    numbers = torch.cat([tensor.reshape(-1) for tensor in found.values()]).tolist()
    ends = itertools.accumulate(tensor.numel() for tensor in found.values())
    own = {key: numbers[end - tensor.numel() : end] for end, (key, tensor) in zip(ends, found.items(), strict=True)}
    for away in same:
        mine, first = own[id(away.tensor)], away.start * _FIELDS
        away.found = mine if away.whole else _sums(away, mine[first : first + away.rows * _FIELDS])
    for away in same:
        away.tensor = None


def _sums(away: Away, numbers: list[float]) -> Sums:
    """Return the reductions of the whole from those of the chunks."""
    columns = [numbers[field::_FIELDS] for field in range(_FIELDS)]
    nonzero, nan = int(sum(columns[_ANY])), int(sum(columns[_NAN]))
    broken = nonzero - int(sum(columns[_NONZERO]))
    norm = math.hypot(*columns[_NORM])
    low, high, total = min(columns[_LOW]), max(columns[_HIGH]), sum(columns[_TOTAL])
    return Sums(away.size - broken, away.repeats, low, high, total, norm, nonzero, nan, broken - nan)
