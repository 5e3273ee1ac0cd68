"""Routes by which a tensor is measured: each kind of tensor takes one of them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Route"]


class Route(IntEnum):
    """The way from a tensor to its statistics; those from ``DEVICE`` on do not depend on the order of dimensions."""

    SMALL_CPU = 0  # read whole with ``tolist()``
    SMALL_DEVICE = 1  # copied whole on its device
    SPECIAL = 2  # sparse, complex, integer, a subclass: special_tensors.py
    DEVICE = 3  # reduced on its device: device.py
    NATIVE = 4  # reduced by the C kernel: native/reduce.c
    BATCHED_COPY = 5  # copied, and reduced with others of its size by torch's kernels
    TORCH = 6  # reduced at once by torch's kernels
