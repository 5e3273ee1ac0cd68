"""Statistics of tensors other than real numbers in strided memory; at least their kind and a note."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradtrace.model import TensorStats
from gradtrace.recording.stats.device import is_here
from gradtrace.recording.stats.reduce import readable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure_special"]

_MAX_VALUES = 16


def measure_special(tensor: torch.Tensor) -> TensorStats:
    """Return the statistics that can be computed; never raises, for any kind of tensor."""
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        for describe in _DESCRIPTIONS:
            try:
                stats = describe(tensor)
            except Exception:  # noqa: BLE001, S112 - a subclass may raise anything; the next asks less of it
                continue
            if stats is not None:
                return stats
    return TensorStats((), dtype="", device="", zeros=None, note=_no_numbers(tensor))


def _no_numbers(tensor: torch.Tensor) -> str:
    return f"{type(tensor).__name__}: no numbers for this kind"


def _is_readable(tensor: torch.Tensor) -> bool:
    plain = type(tensor) in {torch.Tensor, torch.nn.Parameter} and is_here(tensor)
    if plain and tensor.layout is torch.strided:
        readable(tensor)
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _sparse(tensor: torch.Tensor) -> TensorStats | None:
    if tensor.layout is torch.strided or not _is_readable(tensor):
        return None
    stored = (tensor.coalesce() if tensor.layout is torch.sparse_coo else tensor).values()
    kind = str(tensor.layout).removeprefix("torch.").replace("_", " ")
    return _described(tensor, stored, f"{kind}, {stored.shape[0]:,} stored")


def _complex(tensor: torch.Tensor) -> TensorStats | None:
    if not tensor.is_complex() or not _is_readable(tensor):
        return None
    size = max(tensor.numel(), 1)
    finite = tensor[torch.isfinite(tensor)].to(torch.complex128)
    nan, inf = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    norm = torch.linalg.vector_norm(finite).item() if finite.numel() or not tensor.numel() else None
    zeros = int((tensor == 0).sum()) / size
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    return TensorStats(shape, dtype, str(tensor.device), norm, zeros=zeros, nan=nan, inf=inf, note="complex")


def _integer(tensor: torch.Tensor) -> TensorStats | None:
    if tensor.is_floating_point() or tensor.layout is not torch.strided or not _is_readable(tensor):
        return None
    return _described(tensor, tensor, "")


def _described(tensor: torch.Tensor, stored: torch.Tensor, note: str) -> TensorStats:
    """Return the statistics of a tensor with these stored elements, the others being zero."""
    size = max(tensor.numel(), 1)
    elements = stored.reshape(-1).double()
    finite = elements[torch.isfinite(elements)]
    bounds = finite if elements.numel() == tensor.numel() else torch.cat([finite, finite.new_zeros(1)])
    known = bounds.numel() > 0
    nan, inf = int(torch.isnan(elements).sum()), int(torch.isinf(elements).sum())
    return TensorStats(
        tuple(tensor.shape),
        str(tensor.dtype).removeprefix("torch."),
        str(tensor.device),
        torch.linalg.vector_norm(finite).item(),
        finite.sum().item() / size if known else None,
        bounds.min().item() if known else None,
        bounds.max().item() if known else None,
        1 - int(torch.count_nonzero(elements)) / size if tensor.numel() else 0.0,
        nan,
        inf,
        tensor.tolist() if stored is tensor and tensor.numel() <= _MAX_VALUES else None,
        note,
    )


def _unreadable(tensor: torch.Tensor) -> TensorStats:
    try:
        shape = tuple(int(size) for size in tensor.shape)
    except RuntimeError:
        shape = ()  # nested tensors have no shape
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorStats(shape, dtype, str(tensor.device), zeros=None, note=_no_numbers(tensor))


_DESCRIPTIONS: tuple[Callable[[torch.Tensor], TensorStats | None], ...] = (_sparse, _complex, _integer, _unreadable)
