"""DTensors: the local part, read without communication."""

from __future__ import annotations

import sys
from typing import Any

import torch

__all__ = ["local_part"]


def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, str] | None:
    """Return the local part of a DTensor, and its placement (``Shard(0): local 2×16``); None for other tensors.

    A tensor still being communicated (an AsyncCollectiveTensor) is not waited for.
    """
    module: Any = sys.modules.get("torch.distributed.tensor")
    if module is None or not isinstance(tensor, module.DTensor):
        return None
    local: torch.Tensor = tensor._local_tensor
    if type(local) not in (torch.Tensor, torch.nn.Parameter):
        return None
    placements = ", ".join(map(_placement, tensor.placements))
    size = "×".join(str(int(length)) for length in local.shape) or "scalar"
    return local, f"{placements}: local {size}"


def _placement(placement: Any) -> str:
    if placement.is_shard():
        return f"Shard({placement.dim})"
    return "Replicate" if placement.is_replicate() else "Partial"
