"""Torch calls that matter to the checks: in-place changes, lost graphs, pairs made by broadcasting."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.recording.aliases import Aliases
from gradtrace.recording.sources import Place, locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Attribute

__all__ = ["UNREADABLE", "CallFacts", "Cut", "forget_oldest"]

_CHANGES = 20_000  # the latest in-place calls that are remembered
_CUTS = 10_000  # tensors that lost their graph, and live
_PAIRED = {"sub", "__sub__", "__rsub__", "rsub", "subtract", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
# What the script does to a tensor without using it: reading attributes, moving, preparing it.
_NO_USE = {"__set__", "__delete__", "to", "cpu", "cuda", "float", "double", "half", "requires_grad_", "detach", "clone"}
_NO_USE |= {"detach_", "__repr__", "__format__", "__hash__", "__deepcopy__", "numel", "size", "dim", "register_hook"}
_NO_CHANGE = {"__index__", "__invert__", "__int__", "__iter__"}
_RESHAPED = ("Unsqueeze", "View", "UnsafeView", "Reshape", "Index", "Select", "Slice", "Transpose", "Permute", "Expand")
# What torch raises where a tensor can't be asked: inference mode, torch.func's wrappers, nested tensors.
UNREADABLE = (RuntimeError, NotImplementedError, TypeError, AttributeError)
_PLAIN, _IN_PLACE, _PAIR, _PREPARES, _READS = range(5)


class Cut(NamedTuple):
    """Where a tensor lost its graph, and by what; ``params`` are the ids of the parameters it depended on."""

    place: Place | None
    how: str
    params: set[int]
    flows: list[int]  # the passes whose graph the result went on into


class _Lost(NamedTuple):
    tensor: weakref.ref[torch.Tensor]
    cut: Cut


class CallFacts:
    """What one thread's torch calls did, by storage, by tensor and by sequence number."""

    def __init__(self) -> None:
        self.used: dict[int, weakref.ref[torch.Tensor]] = {}
        self.cuts: dict[tuple[int, int, str], tuple[Any, Cut]] = {}
        self.aliases = Aliases()
        self._changes: deque[tuple[tuple[int, ...], int, str, Place | None]] = deque(maxlen=_CHANGES)
        self._lost: dict[int, _Lost] = {}
        self._flows: dict[int, Cut] = {}
        self._pairs: dict[int, tuple[Place | None, dict[str, Attribute]]] = {}

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, result: Any, end: int) -> None:
        """Look at a torch call that has run; ``end`` is the number after its last node, -1 if it made none."""
        try:
            self._see(func, args, kwargs, (result, end))
        except UNREADABLE:
            return  # a tensor of a kind that has no storage, no version or no plain shape: nothing to note

    def _see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, made: tuple[Any, int]) -> None:
        result, end = made
        kind, name = _kinds.get(func) or _kind(func)
        if self.aliases.taken and kind != _READS:
            self.aliases.use(name, args)
        if kind == _PLAIN and end >= 0 and not kwargs and not self._lost:
            self.note_use(args)
            return
        if kind == _READS:
            if name == "data":
                self.note_result(name, args, result)
            elif name == "grad" and result is not None:
                self.aliases.take(args[0], result)
            return
        if kind == _IN_PLACE:
            self.note_change(name, args, kwargs)
            self.note_use(args[1:])  # to change or initialise is not to use
        elif kind != _PREPARES:
            self.note_use((*args, *kwargs.values()) if kwargs else args)
        if end < 0:
            self.note_result(name, args, result)
            return
        self.note_flow(end - 1, args)
        if kind == _PAIR:
            self.note_pair(end - 1, name, args)

    def pairs_among(self, numbers: list[int]) -> Iterator[tuple[int, tuple[Place | None, dict[str, Attribute]]]]:
        """Yield for each of these nodes that paired its operands the position, the place and the shapes."""
        if self._pairs:
            yield from ((p, self._pairs[number]) for p, number in enumerate(numbers) if number in self._pairs)

    def note_flows(self, numbers: list[int], pass_index: int) -> None:
        """Note that the graph with these nodes was run: whatever lost its graph and went into it did so for good."""
        if self._flows:
            for number in self._flows.keys() & set(numbers):
                flows = self._flows.pop(number).flows
                if not flows or flows[-1] != pass_index:
                    flows.append(pass_index)

    def cut_of(self, tensor: torch.Tensor) -> Cut | None:
        """Return where this tensor lost its graph."""
        lost = self._lost.get(id(tensor))
        return lost.cut if lost is not None and lost.tensor() is tensor and not tensor.requires_grad else None

    def change_of(self, tensor: torch.Tensor, was: int | None) -> tuple[str, Place | None] | None:
        """Return the first in-place call that raised the version of this tensor's memory above ``was``."""
        memory = tensor.untyped_storage().data_ptr()
        found = None
        for pointers, version, name, place in reversed(self._changes):
            if memory in pointers:
                if was is not None and 0 <= version <= was:
                    break
                found = name, place
        return found

    def note_change(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Note an in-place call."""
        changed = args[0] if args else (kwargs or {}).get("input")
        if isinstance(changed, (list, tuple)):
            pointers = tuple(t.untyped_storage().data_ptr() for t in changed if type(t) in _TENSORS)
            version = -1
        elif isinstance(changed, torch.Tensor) and changed.layout is torch.strided:
            pointers, version = (changed.untyped_storage().data_ptr(),), changed._version
        else:
            return
        self._changes.append((pointers, version, name, locate(sys._getframe(1))[0]))

    def note_pair(self, number: int, name: str, args: tuple[Any, ...]) -> None:
        """Note a difference of (N, 1) and (N), unless the script shaped one of them so for this purpose."""
        if len(args) < 2 or not (type(args[0]) in _TENSORS and type(args[1]) in _TENSORS):  # noqa: PLR2004
            return
        column, row = (args[0], args[1]) if args[0].dim() > args[1].dim() else (args[1], args[0])
        n = row.shape[0] if row.dim() == 1 else 0
        if n < 2 or column.dim() != 2 or tuple(column.shape) != (n, 1) or (_shaped(column) and "_loss" not in name):  # noqa: PLR2004
            return
        shapes = {"left": list(args[0].shape), "right": list(args[1].shape), "result": [n, n]}
        forget_oldest(self._pairs)
        self._pairs[number] = locate(sys._getframe(1))[0], {"op": name, **shapes}

    def note_use(self, args: tuple[Any, ...]) -> None:
        """Note the parameters among these arguments."""
        for arg in args:
            kind = type(arg)
            if kind is torch.nn.Parameter:
                if id(arg) not in self.used:
                    self.used[id(arg)] = weakref.ref(arg)
            elif kind is list or kind is tuple:
                self.note_use(tuple(item for item in arg if type(item) is torch.nn.Parameter))

    def note_flow(self, number: int, args: tuple[Any, ...]) -> None:
        """Note that the node with this number was made from a tensor that had lost its graph."""
        for arg in args if self._lost else ():
            cut = self.cut_of(arg) if type(arg) is torch.Tensor else None
            if cut is not None:
                self._flows[number] = cut
                forget_oldest(self._flows)

    def note_result(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Note a result without a graph, computed from something that has one or has lost one."""
        if type(result) is not torch.Tensor or result.requires_grad:
            return
        for arg in args:
            items = arg if isinstance(arg, (list, tuple)) else (arg,)
            for tensor in items:
                if type(tensor) in _TENSORS:
                    cut = self._new_cut(name, tensor) if tensor.requires_grad else self.cut_of(tensor)
                    if cut is not None:
                        self._lose(result, cut)
                        return

    def _new_cut(self, name: str, tensor: torch.Tensor) -> Cut:
        place = locate(sys._getframe(1))[0]
        how = name if name in ("detach", "argmax") or torch.is_grad_enabled() else "no_grad"
        key = (id(place[0]), place[1], how) if place else (0, 0, how)
        if key not in self.cuts:
            # The code object is kept beside its Cut, so that its id is not given to another one.
            self.cuts[key] = place, Cut(place, how, _parameters(tensor), [])
        elif tensor.grad_fn is None:
            self.cuts[key][1].params.add(id(tensor))
        return self.cuts[key][1]

    def _lose(self, result: torch.Tensor, cut: Cut) -> None:
        key = id(result)
        if len(self._lost) < _CUTS:
            self._lost[key] = _Lost(weakref.ref(result, lambda _: self._lost.pop(key, None)), cut)


def forget_oldest(found: dict[Any, Any], limit: int = 10_000) -> None:
    """Forget the older half of what was found when there is more than ``limit``: runs may be long."""
    if len(found) > limit:
        for key in list(found)[: limit // 2]:
            del found[key]


_TENSORS = (torch.Tensor, torch.nn.Parameter)


def _parameters(tensor: torch.Tensor) -> set[int]:
    """Return the ids of the leaves that the tensor depends on, as far as ten thousand nodes tell."""
    if tensor.grad_fn is None:
        return {id(tensor)}
    nodes = [tensor.grad_fn]
    seen = set(nodes)
    for node in nodes:
        fresh = {target for target, _ in node.next_functions if target is not None} - seen
        seen |= fresh
        nodes += fresh
        if len(nodes) > 10_000:  # noqa: PLR2004 - once per line of the script, so it must not take long
            break
    return {id(node.variable) for node in nodes if type(node).__name__ == "AccumulateGrad"}  # type: ignore[attr-defined]


def _shaped(tensor: torch.Tensor) -> bool:
    """Tell whether the script made this shape on purpose, by a view or an index."""
    node = tensor.grad_fn
    return (node is not None and type(node).__name__.startswith(_RESHAPED)) or tensor._base is not None


_kinds: dict[Any, tuple[int, str]] = {}


def _kind(func: Any) -> tuple[int, str]:
    name = str(getattr(func, "__name__", ""))
    in_place = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
    in_place |= name.startswith("__i") and name.endswith("__") and name not in _NO_CHANGE
    if name == "__get__":
        kind = _READS
    elif in_place:
        kind = _IN_PLACE
    else:
        kind = _PAIR if name in _PAIRED else _PREPARES if name in _NO_USE else _PLAIN
    if name == "__get__":
        name = str(getattr(getattr(func, "__self__", None), "__name__", name))
    _kinds[func] = kind, name
    return kind, name
