"""The compiled reduction of reduce.c, where the installation could compile it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KERNELS", "Found"]

_LIBRARY = Path(__file__).with_name("_reduce.so")

# Over the finite elements: their count, least, most, sum and sum of squares; then zeros, NaNs and infinities.
Found = ctypes.c_double * 8


def _load() -> dict[torch.dtype, Callable[..., None]]:
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError:
        return {}  # not compiled, or for another platform
    names = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
    found = {}
    for name, dtype in names.items():
        function = getattr(library, f"reduce_{name}")
        function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
        function.restype = None
        found[dtype] = function
    return found


# By dtype, empty where there is no library: called with an address, a count of elements and a Found to fill.
KERNELS = _load()
