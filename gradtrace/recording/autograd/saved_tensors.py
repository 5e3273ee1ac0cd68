"""Saved tensors and plain attributes of a node, read without unpacking any."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.model import Attribute, SavedTensor
from gradtrace.recording.native.loader import NATIVE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import Attribute

__all__ = ["NOTHING", "SavedFields", "raw_field", "saved_by", "saved_tensors"]

_SAVED, _RAW = "_saved_", "_raw_saved_"


# Saved state of a node: its tensors, and plain attributes such as ``exponent`` or ``dim``, as JSON can hold them.
SavedFields = tuple[tuple[SavedTensor, ...], dict[str, Attribute]]


class _Fields(NamedTuple):
    """Field names of one type of node: saved tensors, plain attributes, and a reader of all at once.

    Nodes with equal saved state share one result; in a loop nearly all do.
    """

    tensors: tuple[str, ...]
    plain: tuple[str, ...]
    read: Callable[[Any], tuple[Any, ...]] | None
    known: dict[tuple[Any, ...], SavedFields]


NOTHING: SavedFields = ((), {})
_MANY = 10_000
_PLAIN = {torch.Tensor, torch.nn.Parameter, type(None)}
_fields: dict[type, _Fields] = {}


def kept_slowly(node: Any) -> SavedFields:
    """Return the saved state of the node.

    Raw fields are read: the plain ones unpack, which would rerun the forward of a checkpoint.
    """
    fields = _fields.get(type(node)) or _find_fields(node)
    if fields.read is None:
        return _kept(node, fields)
    key = _key(fields.read(node), len(fields.tensors))
    return (key and fields.known.get(key)) or kept_new(node, key)


def _key(found: tuple[Any, ...], count: int) -> tuple[Any, ...] | None:
    """Return a cache key: shapes and dtypes of ``count`` tensors, the repr of the rest; None for an unusual one."""
    key: list[Any] = []
    for value in found[:count]:
        if type(value) not in _PLAIN:
            return None
        if value is not None and (value.is_nested or value.layout is not torch.strided):
            return None  # has no shape, or more bytes than its shape implies
        key += (None, None) if value is None else (value.shape, value.dtype)
    # By repr, because 1, 1.0 and True are equal, and so are 0.0 and -0.0.
    return (*key, repr(found[count:])) if len(found) > count else tuple(key)


def kept_new(node: Any, key: tuple[Any, ...] | None) -> SavedFields:
    """Return the saved state of the node, and cache it under a key."""
    fields = _fields.get(type(node)) or _find_fields(node)
    kept = _kept(node, fields)
    if key is not None:
        if len(fields.known) > _MANY:
            fields.known.clear()
        fields.known[key] = kept
    return kept


if NATIVE is None:
    saved_by = kept_slowly
else:
    NATIVE.setup(fields=_fields, kept_new=kept_new)
    saved_by = NATIVE.saved_by


def _find_fields(node: Any) -> _Fields:
    if isinstance(node, torch._C._FunctionBase):
        return _Fields(("_raw_saved_tensors",), (), None, {})  # not cached: a type of the script
    names = dir(type(node))
    tensors = tuple(name for name in names if name.startswith(_RAW))
    saved = {name.removeprefix(_RAW) for name in tensors}
    # Symbolic sizes and strides repeat the shapes of the tensors.
    shown = (name.removeprefix(_SAVED) for name in names if name.startswith(_SAVED) and "_sym_" not in name)
    plain = tuple(name for name in shown if name not in saved)
    found = _Fields(tensors, plain, _reader(node, tensors, plain), {})
    _fields[type(node)] = found
    return found


def _reader(node: Any, tensors: tuple[str, ...], plain: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return a reader of all fields at once, None if one of them is a list of tensors."""
    if any(not hasattr(getattr(node, name), "data") for name in tensors):
        return None
    names = [*(f"{name}.data" for name in tensors), *(_SAVED + name for name in plain)]
    if not names:
        return lambda _: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda node: (get(node),)


def _kept(node: Any, fields: _Fields) -> SavedFields:
    tensors: list[SavedTensor] = []
    for name in fields.tensors:
        value, shown = raw_field(node, name), name.removeprefix(_RAW)
        if type(value) is tuple or type(value) is list:
            for index, packed in enumerate(value):
                _read(f"{shown}[{index}]", packed, tensors)
        else:
            _read(shown, value, tensors)
    if not tensors and not fields.plain:
        return NOTHING
    return tuple(tensors), {name: _plain(getattr(node, _SAVED + name)) for name in fields.plain}


def raw_field(node: Any, name: str) -> Any:
    """Return the value of a raw field, None if it was freed (a custom Function raises then)."""
    try:
        return getattr(node, name)
    except RuntimeError:
        return None


def _read(name: str, packed: Any, found: list[SavedTensor]) -> None:
    tensor = getattr(packed, "data", None)
    if isinstance(tensor, torch.Tensor) and not tensor.is_nested:
        shape, dtype = tuple(map(int, tensor.shape)), str(tensor.dtype).removeprefix("torch.")
        found.append(SavedTensor(name, shape, dtype, _nbytes(tensor)))


def _nbytes(tensor: torch.Tensor) -> int:
    """Return the bytes of the elements; for a sparse tensor, of what it stores."""
    if tensor.layout is torch.strided:
        return tensor.nbytes
    if tensor.layout is torch.sparse_coo:
        return tensor._indices().nbytes + tensor._values().nbytes
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        indices = tensor.crow_indices().nbytes + tensor.col_indices().nbytes
    elif tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
        indices = tensor.ccol_indices().nbytes + tensor.row_indices().nbytes
    else:
        return 0  # memory of other libraries, such as oneDNN, whose size is unknown
    return indices + tensor.values().nbytes


def _plain(value: Any) -> Attribute:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # Negative dimensions arrive as unsigned 64-bit numbers.
        return value - 2**64 if value >= 2**63 else value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value)


def saved_tensors(node: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the saved tensors of a node, by name, without unpacking any."""
    found = []
    for name in dir(type(node)):
        if name.startswith("_raw_saved_"):
            value = raw_field(node, name)
            for packed in value if isinstance(value, (tuple, list)) else (value,):
                tensor = getattr(packed, "data", None)
                if isinstance(tensor, torch.Tensor):
                    found.append((name.removeprefix("_raw_saved_"), tensor))
    return found
