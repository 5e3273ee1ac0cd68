"""Statistics of tensors: measured while the script runs, turned into TensorStats when it no longer does.

Measuring happens inside hooks, once per gradient, so it is written for speed. A tensor of up to 16
elements is read with one ``tolist()`` and reduced later in Python; one of up to a few thousand is copied,
and reduced later together with all others of its size; a larger one is reduced at once, over a flat view
of its memory. On another device nothing is read at all: the numbers stay there until the pass has ended,
because reading one would make the script wait for the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.model import TensorStats
from gradtrace.recording.special import measure_special

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.model import Values

__all__ = [
    "COPY",
    "MAX_VALUES",
    "REDUCE",
    "Measured",
    "Pending",
    "Sums",
    "address",
    "finish",
    "measure",
    "same_memory",
    "settle",
]

MAX_VALUES = 16

# Copying more than this costs more than reducing it at once.
_MAX_COPIED = 4096
# One chunk of floats that fits in a core's cache: zeros are counted in it, a chunk at a time.
_CHUNK = 131_072
_MANY_KINDS = 10_000
_REAL = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
_HALF = {torch.float16, torch.bfloat16}
_PLAIN = {torch.Tensor, torch.nn.Parameter}
# Below this norm the squares may have underflowed in float32.
_TINY = 1e-15


# How a kind of tensor is measured.
READ, COPY, REDUCE, DEVICE, SPECIAL = range(5)


class Kind(NamedTuple):
    """What a tensor is, apart from its elements."""

    shape: tuple[int, ...]
    dtype: str
    device: str
    route: int


class Sums(NamedTuple):
    """The reductions of a tensor: over its finite elements, ``repeats`` times each."""

    finite: int
    repeats: int
    low: float
    high: float
    total: float
    norm: float
    nonzero: int
    nan: int = 0
    inf: int = 0


class Pending:
    """Numbers that are not known yet: a tensor to take them from, and then what was found."""

    __slots__ = ("found", "tensor")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: torch.Tensor | None = tensor
        self.found: Any = None


# What was measured of one tensor: its kind, and its values, sums, something pending, or TensorStats.
# A plain tuple: there are several for each op of the script.
Measured = tuple[Kind, Any]

_kinds: dict[tuple[torch.Size, torch.dtype, torch.device], Kind] = {}


def measure(tensor: torch.Tensor) -> Measured:
    """Return the measurements of ``tensor``, which is neither changed nor kept."""
    try:
        if type(tensor) in _PLAIN:
            kind = _kinds.get((tensor.shape, tensor.dtype, tensor.device)) or _new_kind(tensor)
            route = kind.route
            if route == READ:
                return kind, tensor.tolist()
            if route != SPECIAL and tensor.layout is torch.strided:
                return kind, _without_grad(_REDUCERS[route], tensor)
    except (RuntimeError, NotImplementedError, TypeError):
        pass  # wrapped tensors of torch.func look like plain ones until they are read
    stats = measure_special(tensor)
    return Kind(stats.shape, stats.dtype, stats.device, SPECIAL), stats


def same_memory(tensor: torch.Tensor, other: torch.Tensor, measured: Measured) -> Measured | None:
    """Return what was measured of ``other`` as a measurement of ``tensor``, if both are the same elements."""
    if tensor is other:
        return measured
    if measured[0].route not in (COPY, REDUCE) or tensor.layout is not torch.strided or type(tensor) not in _PLAIN:
        return None
    if address(tensor) != address(other) or tensor.numel() != other.numel() or tensor.dtype is not other.dtype:
        return None
    if not (_is_dense(tensor) and _is_dense(other)):
        return None
    return _kinds.get((tensor.shape, tensor.dtype, tensor.device)) or _new_kind(tensor), measured[1]


def address(tensor: torch.Tensor) -> int:
    """Return where the elements begin in memory, or 0 for a tensor that has none of its own."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def _is_dense(tensor: torch.Tensor) -> bool:
    """Tell whether the elements fill their memory without gaps or repeats, in some order of dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _new_kind(tensor: torch.Tensor) -> Kind:
    if len(_kinds) > _MANY_KINDS:
        _kinds.clear()
    shape = tuple(int(size) for size in tensor.shape)
    kind = Kind(shape, str(tensor.dtype).removeprefix("torch."), str(tensor.device), _route(tensor))
    _kinds[tensor.shape, tensor.dtype, tensor.device] = kind
    return kind


def _route(tensor: torch.Tensor) -> int:
    if tensor.dtype not in _REAL or tensor.device.type == "meta":
        return SPECIAL
    if tensor.device.type != "cpu":
        return DEVICE
    if tensor.numel() <= MAX_VALUES:
        return READ
    return COPY if tensor.numel() <= _MAX_COPIED else REDUCE


def _without_grad(reduce: Any, tensor: torch.Tensor) -> Any:
    # Two calls of the C function cost a tenth of torch.no_grad(), and there are two per op of the script.
    if not torch.is_grad_enabled():
        return reduce(tensor)
    torch._C._set_grad_enabled(False)  # noqa: FBT003
    try:
        return reduce(tensor)
    finally:
        torch._C._set_grad_enabled(True)  # noqa: FBT003


def _copy(tensor: torch.Tensor) -> Pending:
    return Pending(tensor.clone())


def _flat(tensor: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the distinct elements as one dimension, in any order, and how often each stands there."""
    if tensor.is_contiguous():
        return tensor.view(-1), 1
    sizes, strides, repeats = [], [], 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride == 0:
            repeats *= size
        elif size > 1:
            sizes.append(size)
            strides.append(stride)
    expected = 1
    for stride, size in sorted(zip(strides, sizes, strict=True)):
        if stride != expected:
            return tensor.reshape(-1), 1
        expected *= size
    return tensor.as_strided((expected,), (1,)), repeats


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
    if _TINY < norm < math.inf:
        return norm
    # The squares overflowed or underflowed: float64 has room for those of the smaller types.
    flat = flat.double()
    largest = flat.abs().amax()
    return float((torch.linalg.vector_norm(flat / largest) * largest).item())


def _count_nonzero(flat: torch.Tensor) -> int:
    # Comparing into a float chunk that stays in the cache is three times faster than count_nonzero.
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
    norm, total = torch.linalg.vector_norm(finite).item(), finite.sum().item()
    nonzero = int(torch.count_nonzero(finite).item()) + nan + inf
    return Sums(finite.numel(), repeats, low.item(), high.item(), total, norm, nonzero, nan, inf)


def _reduce_on_device(tensor: torch.Tensor) -> Pending:
    """Return sum, norm, min, max, nonzero, nan and inf counts, then up to 16 values, still on the device."""
    flat = tensor.reshape(-1)
    if flat.numel() == 0:
        return Pending(torch.empty(0, dtype=torch.float64, device=tensor.device))
    finite = torch.isfinite(flat)
    clean = torch.where(finite, flat, 0)
    low = torch.where(finite, flat, math.inf).amin()
    high = torch.where(finite, flat, -math.inf).amax()
    norm = torch.linalg.vector_norm(clean, dtype=torch.float64)
    counts = torch.stack([torch.count_nonzero(flat), torch.isnan(flat).sum(), torch.isinf(flat).sum()])
    numbers = [clean.sum(dtype=torch.float64), norm, low.double(), high.double()]
    parts = [torch.stack(numbers), counts.double()]
    return Pending(torch.cat([*parts, flat.double()] if flat.numel() <= MAX_VALUES else parts))


_REDUCERS = {COPY: _copy, REDUCE: _reduce, DEVICE: _reduce_on_device}


def settle(measured: Iterable[Measured]) -> None:
    """Find out what is pending: copies of one size together, and one transfer for each other device."""
    copies: dict[tuple[int, torch.dtype], list[Pending]] = {}
    others: dict[torch.device, list[Pending]] = {}
    for _, found in measured:
        if type(found) is Pending and found.tensor is not None:
            tensor = found.tensor
            if tensor.device.type == "cpu":
                copies.setdefault((tensor.numel(), tensor.dtype), []).append(found)
            else:
                others.setdefault(tensor.device, []).append(found)
    with torch.no_grad():
        for same in copies.values():
            _settle_copies(same)
        for away in others.values():
            _settle_away(away)


def _settle_copies(same: list[Pending]) -> None:
    """Reduce tensors of one size and type row by row; a row that is not finite is looked at by itself."""
    rows = torch.stack([pending.tensor.reshape(-1) for pending in same if pending.tensor is not None]).double()
    low, high = rows.amin(1), rows.amax(1)
    sums = torch.stack([low, high, rows.sum(1), torch.linalg.vector_norm(rows, dim=1), (rows != 0).sum(1).double()])
    for pending, row, numbers in zip(same, rows, sums.t().tolist(), strict=True):
        least, most, total, norm, nonzero = numbers
        if math.isfinite(least) and math.isfinite(most):
            pending.found = Sums(row.numel(), 1, least, most, total, norm, int(nonzero))
        else:
            pending.found = _reduce_nonfinite(row, 1)
        pending.tensor = None


def _settle_away(away: list[Pending]) -> None:
    tensors = [pending.tensor for pending in away if pending.tensor is not None]
    numbers = torch.cat(tensors).tolist()
    start = 0
    for pending, tensor in zip(away, tensors, strict=True):
        pending.found = numbers[start : start + tensor.numel()]
        pending.tensor = None
        start += tensor.numel()


def finish(measured: Measured) -> TensorStats:
    """Return the statistics of a measured tensor."""
    kind, found = measured
    if isinstance(found, float) and math.isfinite(found):  # by far the most common in scripts of scalars
        return TensorStats(
            kind.shape, kind.dtype, kind.device, abs(found), found, found, found, 0.0 if found else 1.0, values=found
        )
    if isinstance(found, Pending):
        if found.tensor is not None:
            settle([measured])
        found = found.found
        if kind.route == DEVICE:
            return _from_device(kind, found)
    if isinstance(found, TensorStats):
        return found
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
        math.hypot(*finite) if count or not flat else None,
        math.fsum(finite) / count if count else None,
        min(finite, default=None),
        max(finite, default=None),
        flat.count(0) / len(flat) if flat else 0.0,
        nan,
        len(flat) - count - nan,
        values if count == len(flat) else _finite_only(values),
    )


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
        sums.norm * math.sqrt(sums.repeats) if known else None,
        sums.total / sums.finite if known else None,
        sums.low if known else None,
        sums.high if known else None,
        1 - sums.nonzero / size if size else 0.0,
        sums.nan * sums.repeats,
        sums.inf * sums.repeats,
    )


def _from_device(kind: Kind, numbers: list[float]) -> TensorStats:
    if not numbers:
        return _from_values(kind, [])
    total, norm, low, high, nonzero, nan, inf = numbers[:7]
    size = math.prod(kind.shape)
    if size <= MAX_VALUES:
        return _from_values(kind, _nest(numbers[7:], kind.shape))
    sums = Sums(size - int(nan) - int(inf), 1, low, high, total, norm, int(nonzero), int(nan), int(inf))
    return _from_sums(kind, sums)


def _nest(flat: list[float], shape: tuple[int, ...]) -> Any:
    """Return ``flat`` nested like a tensor of this shape (a bare number for a 0-d one)."""
    values: list[Any] = flat
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)]
    return values if shape else values[0]
