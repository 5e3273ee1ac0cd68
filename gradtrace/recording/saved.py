"""What a node keeps for its backward: tensors and plain attributes, read without unpacking anything."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from gradtrace.model import Attribute, SavedTensor

__all__ = ["Kept", "attributes", "kept_by", "saved_tensors"]

_SAVED, _RAW = "_saved_", "_raw_saved_"


class _Fields(NamedTuple):
    """The names of the saved tensors and of the plain attributes of one type of node."""

    tensors: tuple[str, ...]
    plain: tuple[str, ...]


# What a node keeps, as it was read: its attributes, and name, shape, dtype and bytes of its tensors.
Kept = tuple[dict[str, Any], list[tuple[str, torch.Size, torch.dtype, int]]]

_fields: dict[type, _Fields] = {}
_CUSTOM = _Fields(("_raw_saved_tensors",), ())


def kept_by(node: Any) -> Kept | None:
    """Return what the node keeps, or None if it keeps nothing.

    Raw fields are read: the plain ones unpack, which runs the forward of a checkpoint again.
    """
    fields = _fields.get(type(node)) or _find_fields(node)
    if not fields.tensors and not fields.plain:
        return None
    plain = {name: getattr(node, _SAVED + name) for name in fields.plain} if fields.plain else {}
    tensors: list[tuple[str, torch.Size, torch.dtype, int]] = []
    for name in fields.tensors:
        value = getattr(node, name)
        if type(value) is tuple or type(value) is list:
            for index, packed in enumerate(value):
                _read(f"{name}[{index}]", packed, tensors)
        else:
            _read(name, value, tensors)
    return plain, tensors


def _find_fields(node: Any) -> _Fields:
    if isinstance(node, torch._C._FunctionBase):
        return _CUSTOM  # its type is the script's own, which must not live on here
    names = dir(type(node))
    tensors = tuple(name for name in names if name.startswith(_RAW))
    saved = {name.removeprefix(_RAW) for name in tensors}
    plain = (name.removeprefix(_SAVED) for name in names if name.startswith(_SAVED))
    # Symbolic sizes and strides only repeat what the tensors' shapes say.
    found = _Fields(tensors, tuple(name for name in plain if name not in saved and "_sym_" not in name))
    _fields[type(node)] = found
    return found


def _read(name: str, packed: Any, found: list[tuple[str, torch.Size, torch.dtype, int]]) -> None:
    tensor = getattr(packed, "data", None)
    # isinstance asks the metaclass, which takes longer than all the rest.
    if tensor is None or not (type(tensor) is torch.Tensor or isinstance(tensor, torch.Tensor)):
        return
    if not tensor.is_nested:
        found.append((name, tensor.shape, tensor.dtype, tensor.nbytes))


def attributes(kept: Kept | None) -> dict[str, Attribute]:
    """Return the plain attributes, such as ``exponent`` or ``dim``, as JSON can hold them."""
    return {name: _plain(value) for name, value in kept[0].items()} if kept else {}


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


def saved_tensors(kept: Kept | None) -> tuple[SavedTensor, ...]:
    """Return the name, shape, dtype and bytes of each tensor that the node keeps."""
    if kept is None:
        return ()
    return tuple(
        SavedTensor(name.removeprefix(_RAW), tuple(map(int, shape)), str(dtype).removeprefix("torch."), size)
        for name, shape, dtype, size in kept[1]
    )
