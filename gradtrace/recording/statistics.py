"""Statistics of tensors: measured while the script runs, turned into TensorStats when it no longer does.

Measuring happens inside hooks, once per gradient, so it is written for speed: a tensor of up to 16
elements is read with one ``tolist()`` and reduced later in Python; a larger one is reduced over a flat
view of its memory. On another device nothing is read at all: the numbers stay there as one small tensor
until the pass has ended, because reading one would make the script wait for the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Values

__all__ = ["MAX_VALUES", "Measured", "finish", "measure", "settle"]

MAX_VALUES = 16

# One chunk of floats that fits in a core's cache: zeros are counted in it, a chunk at a time.
_CHUNK = 131_072
_MANY_KINDS = 10_000
_REAL = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
_HALF = {torch.float16, torch.bfloat16}
_PLAIN = {torch.Tensor, torch.nn.Parameter}
# Below this norm the squares may have underflowed in float32.
_TINY = 1e-15


class Kind(NamedTuple):
    """What a tensor is, apart from its elements."""

    shape: tuple[int, ...]
    dtype: str
    device: str


class Sums(NamedTuple):
    """The reductions of a large tensor: over its finite elements, ``repeats`` times each."""

    finite: int
    repeats: int
    low: float
    high: float
    total: float
    norm: float
    nonzero: int
    nan: int = 0
    inf: int = 0


class Measured(NamedTuple):
    """What was measured of one tensor: its kind, and its values, sums, device tensor, or a note."""

    kind: Kind
    found: list[Any] | float | Sums | torch.Tensor | TensorStats


_kinds: dict[tuple[torch.Size, torch.dtype, torch.device], Kind] = {}


def measure(tensor: torch.Tensor) -> Measured:
    """Return the measurements of ``tensor``, which is neither changed nor kept."""
    if type(tensor) not in _PLAIN:
        return _measure_special(tensor)
    try:
        kind = _kind(tensor)
        if tensor.dtype not in _REAL or tensor.layout is not torch.strided:
            return _measure_special(tensor)
        if kind.device != "cpu":
            return Measured(kind, _without_grad(_reduce_on_device, tensor))
        if tensor.numel() <= MAX_VALUES:
            return Measured(kind, tensor.tolist())
        return Measured(kind, _without_grad(_reduce, tensor))
    except (RuntimeError, NotImplementedError, TypeError):
        # Wrapped tensors of torch.func and torch.compile look like plain ones until they are read.
        return _measure_special(tensor)


def _kind(tensor: torch.Tensor) -> Kind:
    key = (tensor.shape, tensor.dtype, tensor.device)
    kind = _kinds.get(key)
    if kind is None:
        shape = tuple(int(size) for size in tensor.shape)
        kind = Kind(shape, str(tensor.dtype).removeprefix("torch."), str(tensor.device))
        if len(_kinds) > _MANY_KINDS:
            _kinds.clear()
        _kinds[key] = kind
    return kind


def _without_grad(reduce: Any, tensor: torch.Tensor) -> Any:
    # Two calls of the C function cost a tenth of torch.no_grad(), and there are two per op of the script.
    if not torch.is_grad_enabled():
        return reduce(tensor)
    torch._C._set_grad_enabled(False)  # noqa: FBT003
    try:
        return reduce(tensor)
    finally:
        torch._C._set_grad_enabled(True)  # noqa: FBT003


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


def _reduce_on_device(tensor: torch.Tensor) -> torch.Tensor:
    """Return sum, norm, min, max, nonzero, nan and inf counts, then up to 16 values, still on the device."""
    flat = tensor.reshape(-1)
    if flat.numel() == 0:
        return torch.empty(0, dtype=torch.float64, device=tensor.device)
    finite = torch.isfinite(flat)
    clean = torch.where(finite, flat, 0)
    low = torch.where(finite, flat, math.inf).amin()
    high = torch.where(finite, flat, -math.inf).amax()
    norm = torch.linalg.vector_norm(clean, dtype=torch.float64)
    counts = torch.stack([torch.count_nonzero(flat), torch.isnan(flat).sum(), torch.isinf(flat).sum()])
    numbers = [clean.sum(dtype=torch.float64), norm, low.double(), high.double()]
    parts = [torch.stack(numbers), counts.double()]
    return torch.cat([*parts, flat.double()] if flat.numel() <= MAX_VALUES else parts)


def settle(measured: list[Measured]) -> dict[int, list[float]]:
    """Return the numbers that wait on other devices, by ``id`` of their tensor: one transfer a device."""
    waiting: dict[torch.device, list[torch.Tensor]] = {}
    for item in measured:
        if isinstance(item.found, torch.Tensor):
            waiting.setdefault(item.found.device, []).append(item.found)
    arrived: dict[int, list[float]] = {}
    for tensors in waiting.values():
        numbers = torch.cat(tensors).tolist()
        start = 0
        for tensor in tensors:
            arrived[id(tensor)] = numbers[start : start + tensor.numel()]
            start += tensor.numel()
    return arrived


def _measure_special(tensor: torch.Tensor) -> Measured:
    """Return what there is of a tensor that has no plain elements: at worst its kind and a note."""
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        for special in (_sparse, _complex, _unreadable):
            try:
                stats = special(tensor)
            except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
                continue  # the next one asks less of the tensor; the last asks nothing
            if stats is not None:
                return Measured(Kind(stats.shape, stats.dtype, stats.device), stats)
    note = f"{type(tensor).__name__}: no numbers for this kind"
    unknown = TensorStats((), dtype="", device="", zeros=None, note=note)
    return Measured(Kind((), "", ""), unknown)


def _sparse(tensor: torch.Tensor) -> TensorStats | None:
    if tensor.layout is torch.strided or type(tensor) not in _PLAIN or tensor.device.type != "cpu":
        return None
    values = (tensor.coalesce() if tensor.layout is torch.sparse_coo else tensor).values()
    stats = finish(Measured(_kind(values), _reduce(values)))
    zeros = 1 - (1 - (stats.zeros or 0.0)) * values.numel() / max(tensor.numel(), 1)
    mean = None if stats.mean is None else stats.mean * values.numel() / max(tensor.numel(), 1)
    low, high = (None if bound is None else pick(bound, 0.0) for bound, pick in ((stats.min, min), (stats.max, max)))
    note = str(tensor.layout).removeprefix("torch.").replace("_", " ")
    return TensorStats(
        tuple(tensor.shape), stats.dtype, stats.device, stats.norm, mean, low, high, zeros, stats.nan, stats.inf,
        note=f"{note}, {values.shape[0]} stored",
    )  # fmt: skip


def _complex(tensor: torch.Tensor) -> TensorStats | None:
    if not tensor.is_complex() or type(tensor) not in _PLAIN or tensor.device.type != "cpu":
        return None
    size = max(tensor.numel(), 1)
    nan, inf = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    norm = None if nan or inf else torch.linalg.vector_norm(tensor.resolve_conj()).item()
    zeros = int((tensor == 0).sum()) / size
    kind = _kind(tensor)
    return TensorStats(kind.shape, kind.dtype, kind.device, norm, zeros=zeros, nan=nan, inf=inf, note="complex")


def _unreadable(tensor: torch.Tensor) -> TensorStats:
    note = f"{type(tensor).__name__}: no numbers for this kind"
    try:
        shape = tuple(int(size) for size in tensor.shape)
    except RuntimeError:
        shape = ()  # nested tensors have no shape
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorStats(shape, dtype, str(tensor.device), zeros=None, note=note)


def finish(measured: Measured, arrived: dict[int, list[float]] | None = None) -> TensorStats:
    """Return the statistics of a measured tensor; ``arrived`` is what ``settle`` brought over."""
    kind, found = measured
    if isinstance(found, TensorStats):
        return found
    if isinstance(found, Sums):
        return _from_sums(kind, found)
    if isinstance(found, torch.Tensor):
        return _from_device(kind, (arrived or settle([measured]))[id(found)])
    if isinstance(found, float) and math.isfinite(found):  # by far the most common in scripts of scalars
        return TensorStats(
            kind.shape, kind.dtype, kind.device, abs(found), found, found, found, 0.0 if found else 1.0, values=found
        )
    return _from_values(kind, found)


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
