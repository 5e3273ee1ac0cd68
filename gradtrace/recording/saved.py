"""What a node keeps for its backward: tensors and plain attributes, read without unpacking anything."""

from __future__ import annotations

from typing import Any

import torch

from gradtrace.model import Attribute, SavedTensor

__all__ = ["attributes", "saved_tensors"]

_SAVED, _RAW = "_saved_", "_raw_saved_"
_names: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}


def _fields(node: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the saved tensors and of the plain attributes of this type of node."""
    found = _names.get(type(node))
    if found is None:
        names = dir(type(node))
        tensors = tuple(name.removeprefix(_RAW) for name in names if name.startswith(_RAW))
        # Symbolic sizes and strides only repeat what the tensors' shapes say.
        plain = (name.removeprefix(_SAVED) for name in names if name.startswith(_SAVED) and "_sym_" not in name)
        found = _names[type(node)] = tensors, tuple(name for name in plain if name not in tensors)
    return found


def attributes(node: Any) -> dict[str, Attribute]:
    """Return the plain attributes that the node keeps, such as ``exponent`` or ``dim``."""
    return {name: _plain(getattr(node, _SAVED + name)) for name in _fields(node)[1]}


def _plain(value: Any) -> Attribute:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # Dimensions counted from the end come as unsigned 64-bit numbers.
        return value - 2**64 if value >= 2**63 else value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value)


def saved_tensors(node: Any) -> tuple[SavedTensor, ...]:
    """Return the name, shape, dtype and bytes of each tensor that the node keeps.

    The raw field is read: the plain one unpacks, which runs the forward of a checkpoint again.
    """
    found = []
    for name in _fields(node)[0]:
        value = getattr(node, _RAW + name)
        several = isinstance(value, (tuple, list))
        for index, packed in enumerate(value if several else (value,)):
            tensor = getattr(packed, "data", None)
            if isinstance(tensor, torch.Tensor):
                found.append(_describe(f"{name}[{index}]" if several else name, tensor))
    return tuple(found)


def _describe(name: str, tensor: torch.Tensor) -> SavedTensor:
    shape = tuple(int(size) for size in tensor.shape)
    return SavedTensor(name, shape, str(tensor.dtype).removeprefix("torch."), tensor.numel() * tensor.element_size())
