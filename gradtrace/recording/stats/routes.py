"""Routes by which tensors are measured, one for each kind of tensor."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Route"]


class Route(IntEnum):
    """Route from a tensor to its statistics; from ``DEVICE`` on, the order of dimensions does not matter."""

    SMALL_CPU = 0  # read whole with ``tolist()``
    SMALL_DEVICE = 1  # copied whole on its device
    SPECIAL = 2  # sparse, complex, integer, a subclass: special_tensors.py
    DEVICE = 3  # reduced on its device: device.py
    NATIVE = 4  # reduced by the C kernel: native/reduce.c
    BATCHED_COPY = 5  # copied, and reduced with others of its size by torch's kernels
    TORCH = 6  # reduced at once by torch's kernels
