"""Reductions of larger tensors: by the C kernel if it is available, else by torch's kernels.

Without the C kernel, a tensor of up to a few thousand elements is copied, and reduced later together with all
others of its size; a larger one is reduced at once, over a flat view of its memory.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gradtrace.recording.isolation.hidden import hidden
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.device import Away, reduce_away, require_measurable, send, values_away
from gradtrace.recording.stats.reductions import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "COMPILED_TYPES",
    "copy",
    "readable",
    "reduce",
    "reduce_on_device",
    "reduce_pending",
    "reduce_strided",
    "runs_of",
    "values_on_device",
]

T = TypeVar("T")
# Stride and size of each dimension, in elements.
Runs = tuple[tuple[int, int], ...]

# Dtypes that the C kernel supports, where it is compiled.
COMPILED_TYPES = set() if NATIVE is None else {torch.float32, torch.float64, torch.bfloat16}
# Floats that fit in the cache of a core: zeros are counted in chunks of this size.
_CHUNK = 131_072
_HALF = {torch.float16, torch.bfloat16}
# Below this norm, squares may have underflowed in float32.
_TINY = 1e-15
# The same for float64.
_LEAST = 1e-150


def runs_of(tensor: torch.Tensor) -> Runs:
    """Return strides and sizes in the order of memory, with contiguous dimensions merged.

    Tensors at one address with the same runs have the same elements, in some order.
    """
    if tensor.is_contiguous():
        return ((1, tensor.numel()),)
    return _joined(tensor.stride(), tensor.shape)


@lru_cache(4096)  # a loop creates the same views in each iteration
def _joined(strides: tuple[int, ...], shape: tuple[int, ...]) -> Runs:
    found: list[tuple[int, int]] = []
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size == 1:
            continue
        if found and found[-1][0] * (found[-1][1] if stride else 1) == stride:
            found[-1] = found[-1][0], found[-1][1] * size
        else:
            found.append((stride, size))
    return tuple(found)


def readable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the same elements in memory: itself, or a copy if autograd stores it as "all zeros".

    Raises:
        RuntimeError: The memory was freed, as sharded models do, or made smaller. Reading it would end the process.
    """
    if tensor._is_zerotensor():
        return tensor.clone()
    if tensor.numel():
        storage, last = tensor.untyped_storage(), 0
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            last += (size - 1) * stride
        memory = storage.data_ptr()
        start = tensor.data_ptr() - memory  # raises without a storage
        if not memory or start < 0 or start + (last + 1) * tensor.element_size() > storage.nbytes():
            raise RuntimeError("the memory was freed")
    return tensor


def reduce_strided(tensor: torch.Tensor) -> Sums:
    """Return the reductions of a tensor whose dtype the C kernel supports."""
    return _without_grad(_reduce_compiled, tensor)


def _reduce_compiled(tensor: torch.Tensor) -> Sums:
    tensor = readable(tensor).resolve_neg()
    repeats, runs = _repeats(runs_of(tensor))
    if runs[0][0] != 1:
        tensor, repeats = tensor.reshape(-1).contiguous(), 1
        runs = ((1, tensor.numel()),)
    if NATIVE is None:
        raise RuntimeError("without the compiled part there is no kernel")
    found = NATIVE.reduce_strided(tensor.dtype, tensor.data_ptr(), tensor.element_size(), runs)
    finite, low, high, total, squares, zeros, nan, inf = found
    norm = math.sqrt(squares)
    if finite and (low or high):
        norm = _in_range(norm, tensor)
    nonzero = math.prod(size for _, size in runs) - int(zeros)
    return Sums(int(finite), repeats, low, high, total, norm, nonzero, int(nan), int(inf))


def _repeats(runs: Runs) -> tuple[int, Runs]:
    """Return how often each element is repeated, and the runs of distinct ones."""
    if runs and runs[0][0] == 0:
        return runs[0][1], runs[1:] or ((1, 1),)
    return 1, runs or ((1, 1),)


def _flat(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the distinct elements as one dimension, in any order, and how often each is repeated."""
    if tensor.is_contiguous():
        return tensor.view(-1), 1
    repeats, runs = _repeats(runs_of(tensor))
    if len(runs) > 1 or runs[0][0] != 1:
        return tensor.reshape(-1).contiguous(), 1
    return tensor.as_strided((runs[0][1],), (1,)), repeats


def reduce(tensor: torch.Tensor) -> Sums:
    """Return the reductions of a tensor, by torch's kernels."""
    return _without_grad(lambda tensor: _reduce(readable(tensor)), tensor)


def _reduce(tensor: torch.Tensor) -> Sums:
    flat, repeats = _flat(tensor)
    wide = torch.float32 if flat.dtype in _HALF else None
    total = flat.sum(dtype=wide).item()
    if not math.isfinite(total):
        return _reduce_nonfinite(flat, repeats)
    low, high = flat.amin().item(), flat.amax().item()
    norm = _norm(flat) if low or high else 0.0
    nonzero = flat.numel() if low > 0 or high < 0 else _count_nonzero(flat)
    return Sums(flat.numel(), repeats, low, high, total, norm, nonzero)


def _norm(flat: torch.Tensor) -> float:
    if flat.dtype in _HALF:
        norm = float(torch.linalg.vector_norm(flat, dtype=torch.float32).item())
    else:
        norm = math.sqrt(torch.dot(flat, flat).item())  # twice as fast as vector_norm
    return norm if _TINY < norm < math.inf else _scaled_norm(flat)


def _scaled_norm(flat: torch.Tensor) -> float:
    """Return the norm of the finite elements where their squares overflow or underflow."""
    wide = flat[torch.isfinite(flat)].double()
    largest = wide.abs().amax()
    return float((torch.linalg.vector_norm(wide / largest) * largest).item()) if largest else 0.0


def _in_range(norm: float, flat: torch.Tensor) -> float:
    """Return this norm, or a more exact one where the squares left the range of float64."""
    return norm if _LEAST < norm < math.inf or flat.dtype is not torch.float64 else _without_grad(_scaled_norm, flat)


def _count_nonzero(flat: torch.Tensor) -> int:
    # A comparison into a float chunk that stays in the cache is three times faster than count_nonzero.
    scratch = torch.empty(min(flat.numel(), _CHUNK), dtype=torch.float32)
    found = 0
    for start in range(0, flat.numel(), _CHUNK):
        piece = flat[start : start + _CHUNK]
        out = scratch[: piece.numel()]
        torch.ne(piece, 0, out=out)
        found += int(out.sum().item())
    return found


def _reduce_nonfinite(flat: torch.Tensor, repeats: int) -> Sums:
    finite = flat[torch.isfinite(flat)].double()
    nan = int(torch.isnan(flat).sum().item())
    inf = flat.numel() - finite.numel() - nan
    if finite.numel() == 0:
        return Sums(0, repeats, math.nan, math.nan, 0.0, math.nan, nan + inf, nan, inf)
    low, high = finite.aminmax()
    norm, total = _in_range(torch.linalg.vector_norm(finite).item(), finite), finite.sum().item()
    nonzero = int(torch.count_nonzero(finite).item()) + nan + inf
    return Sums(finite.numel(), repeats, low.item(), high.item(), total, norm, nonzero, nan, inf)


def _without_grad(function: Callable[[torch.Tensor], T], tensor: torch.Tensor) -> T:
    # Two calls of the C function take a tenth of the time of torch.no_grad(), and there are two per op.
    if not torch.is_grad_enabled():
        return function(tensor)
    try:  # immediately, because Ctrl-C can interrupt after any call
        torch._C._set_grad_enabled(False)  # noqa: FBT003
        return function(tensor)
    finally:
        torch._C._set_grad_enabled(True)  # noqa: FBT003


def copy(tensor: torch.Tensor) -> Pending:
    """Return a copy, to be reduced later together with others of its size."""
    return Pending(_without_grad(lambda tensor: readable(tensor).clone(), tensor))


def reduce_on_device(tensor: torch.Tensor) -> Away:
    """Return the reductions of a tensor on another device, to be transferred later."""
    require_measurable(tensor.device)
    return _without_grad(lambda tensor: reduce_away(*_flat(readable(tensor).resolve_neg())), tensor)


def values_on_device(tensor: torch.Tensor) -> Away:
    """Return the few elements of a tensor on another device, to be transferred later."""
    require_measurable(tensor.device)
    return _without_grad(lambda tensor: values_away(readable(tensor)), tensor)


def reduce_pending(measured: Iterable[list[Any]]) -> None:
    """Reduce everything pending: copies of one size together, and device numbers in one transfer."""
    copies: dict[tuple[int, torch.dtype], list[Pending]] = {}
    others = False
    for _, found in measured:
        others |= type(found) is Away
        if type(found) is Pending and found.tensor is not None:
            copies.setdefault((found.tensor.numel(), found.tensor.dtype), []).append(found)
    if not copies and not others:
        return
    with hidden():
        for same in copies.values():
            _settle_copies(same)
        if others:
            send().wait()


def _settle_copies(same: list[Pending]) -> None:
    """Reduce tensors of one size and dtype row by row; a row that is not finite is reduced separately."""
    rows = torch.stack([pending.tensor.reshape(-1) for pending in same if pending.tensor is not None]).double()
    low, high = rows.amin(1), rows.amax(1)
    sums = torch.stack([low, high, rows.sum(1), torch.linalg.vector_norm(rows, dim=1), (rows != 0).sum(1).double()])
    for pending, row, numbers in zip(same, rows, sums.t().tolist(), strict=True):
        least, most, total, norm, nonzero = numbers
        if math.isfinite(least) and math.isfinite(most):
            norm = _in_range(norm, row) if least or most else 0.0
            pending.found = Sums(row.numel(), 1, least, most, total, norm, int(nonzero))
        else:
            pending.found = _reduce_nonfinite(row, 1)
        pending.tensor = None
