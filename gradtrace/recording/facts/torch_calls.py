"""Torch calls that matter to the checks: in-place changes, lost graphs, pairs made by broadcasting."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Parameter

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.distributed.wrappers import is_wrapper_frame
from gradtrace.recording.facts.broadcasts import MULTIPLIED, PAIRED, Broadcasts
from gradtrace.recording.facts.lost_graph import TENSORS, Cut, forget_oldest
from gradtrace.recording.facts.nonfinite_element import holds_nonfinite, is_broken
from gradtrace.recording.facts.shared import UNSEEN, UnseenChange
from gradtrace.recording.stats.device import is_here
from gradtrace.recording.stats.reductions import Sums
from gradtrace.recording.user_code.frames import find_user_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.recording.facts.nonfinite_births import Origin
    from gradtrace.recording.facts.shared import Shared
    from gradtrace.recording.forward.thread_logs import ThreadLog

__all__ = ["UNREADABLE", "CallFacts"]

# Calls that do not use a tensor's values in a forward: reading attributes, moving, preparing it.
_NO_USE = {"__delete__", "to", "cpu", "cuda", "float", "double", "half", "requires_grad_", "detach", "clone"}
_NO_USE |= {"detach_", "__repr__", "__format__", "__hash__", "__deepcopy__", "numel", "size", "dim", "register_hook"}
_ADDING = {"add", "__add__", "__radd__", "__iadd__", "add_"}
_NO_CHANGE = {"__index__", "__invert__", "__int__", "__iter__"}
# Exceptions of torch for tensors without such an attribute: inference mode, torch.func's wrappers, nested tensors.
UNREADABLE = (RuntimeError, NotImplementedError, TypeError, AttributeError)
_NONE: dict[int, Any] = {}
_OUTPUTS = 8  # nodes inspected of a call with several results
# Calls inspected even if their measured result is finite.
_UNMEASURED = {"__setitem__", "rsqrt", "reciprocal", "div", "__truediv__", "__rdiv__"}
_PLAIN, _PAIR, _IN_PLACE, _PREPARES, _READS, _WRITES, _LOOKED = range(7)


class CallFacts:
    """Torch calls of one thread.

    State by sequence number is its own, because each thread counts for itself; the rest is shared.
    """

    def __init__(self, shared: Shared, log: ThreadLog) -> None:
        self._shared = shared
        self._log = log
        self._cuts = shared.cuts
        self._births = shared.births
        self._swallowed: dict[int, Origin] = {}
        self._aliases = shared.aliases
        self._flows: dict[int, tuple[Cut, ...]] = {}
        self.broadcasts = Broadcasts()

    def see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None, result: Any, end: int) -> None:
        """Note a torch call that has run; ``end`` is the number after its last node, -1 if it made none."""
        # Inlined for speed: this runs for each op, and almost all return here.
        known = _kinds.get(func)
        if end >= 0 and (self._is_broken(end) or (self._births and (known or _kind(func))[1] in _UNMEASURED)):
            self._follow((known or _kind(func))[1], args, kwargs, result, end)
        if known is not None and known[0] <= _PAIR and end >= 0 and not kwargs and not self._aliases.taken:
            cuts = self._cuts
            if not cuts:
                tensors = 0
                for arg in args:
                    kind = type(arg)
                    if kind is torch.Tensor:
                        tensors += 1
                    elif kind is Parameter or kind is list or kind is tuple:
                        tensors += 1
                        self.note_use((arg,), graphed=True)
                if tensors < 2 or known[0] == _PLAIN:  # noqa: PLR2004 - of a tensor and a number come no pairs
                    if known[1] in _ADDING and not result.dim():
                        self._shared.kept.note_sum(args, result, end - 1)
                    return
        try:
            self._see(known or _kind(func), args, kwargs, (result, end))
        except UNREADABLE:
            return  # a tensor of a kind that has no storage, no version or no plain shape: nothing to note

    def _see(
        self, known: tuple[int, str], args: tuple[Any, ...], kwargs: dict[str, Any] | None, made: tuple[Any, int]
    ) -> None:
        result, end = made
        kind, name = known
        if kind == _READS:
            self._read(name, args, result)
            return
        if kind == _WRITES:
            self._write(name, args)
            return
        if self._aliases.taken:
            self._aliases.use(name, args)
        given = (*args, *kwargs.values()) if kwargs else args
        if name == "requires_grad_" and not result.requires_grad:
            self._shared.freeze(result)
        self._note_effects(known, args, kwargs, graphed=end >= 0)
        if end < 0:
            self._cuts.note(name, given, result)
            self._follow_plain(kind, (name, args, kwargs), result)
            return
        self._note_graph(known, given, result, end - 1)

    def _note_graph(self, known: tuple[int, str], given: tuple[Any, ...], result: Any, number: int) -> None:
        """Note the operands of a call that made a graph, whose last node has this number."""
        kind, name = known
        if self._cuts:
            self.note_flow(number, given)
            if name in _ADDING:
                self.note_term(given)
        if name in _ADDING and not result.dim():
            self._shared.kept.note_sum(given, result, number)
        if kind == _PAIR:
            self.broadcasts.note(number, name, given)

    def _is_broken(self, end: int) -> bool:
        """Tell whether the result of the last call, as it was measured, holds NaN or infinity."""
        calls = self._log.calls
        last = calls.calls[-1] if calls.calls else None
        if last is None or last[1] != end:
            return False  # no measurement, for example after the recording has ended
        measured = last[4]
        if measured is None:
            last_nodes = range(max(last[0], end - _OUTPUTS), end)
            return any(is_broken(m) for n in last_nodes for m in calls.values.get(n, _NONE).values())
        values = measured[1]
        return (values.nan > 0 or values.inf > 0) if type(values) is Sums else is_broken(measured)

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None, result: Any, end: int) -> None:
        """Track values that are not finite through a call with a graph."""
        try:
            if name == "__setitem__":
                result = args[0]
            for tensor in result if isinstance(result, (tuple, list)) else (result,):
                if type(tensor) not in TENSORS or not tensor.is_floating_point() or not is_here(tensor):
                    continue
                if holds_nonfinite(tensor):
                    self._births.see((name, args, kwargs), tensor, self._log, end - 1)
                else:
                    origin = self._births.swallowed(name, args, tensor)
                    if origin is not None:
                        self._swallowed[end - 1] = origin
        except UNREADABLE:
            return

    def _follow_plain(self, kind: int, call: tuple[str, Any, Any], result: Any) -> None:
        """Track values that are not finite through a call without a graph, except in an optimizer's step."""
        name, args, _ = call
        if self._shared.is_stepping:
            return
        if name == "__setitem__":
            result = args[0] if self._is_given(args[2]) else None
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if type(tensor) not in TENSORS or not tensor.is_floating_point() or not is_here(tensor):
                continue
            if tensor._base is not None and kind != _IN_PLACE and not self._births:
                continue  # a view of a tensor that was inspected already
            if holds_nonfinite(tensor):
                self._births.see(call, tensor, self._log, -1)

    @staticmethod
    def _is_given(value: Any) -> bool:
        """Tell whether the value assigned to an element is not finite."""
        if type(value) in TENSORS:
            return value.is_floating_point() and is_here(value) and holds_nonfinite(value)
        return type(value) is float and value - value != 0

    def swallowed_among(self, numbers: list[int]) -> Iterator[tuple[int, Origin]]:
        """Yield the position and the overflow for each of these nodes that turned one into zeros."""
        if self._swallowed:
            yield from ((p, self._swallowed[n]) for p, n in enumerate(numbers) if n in self._swallowed)

    def _read(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        if name == "data":
            self._cuts.note(name, args, result)
            forget_oldest(self._shared.data, UNSEEN)
            self._shared.data[id(result)] = weakref.ref(result)
        elif name == "grad" and result is not None:
            self._aliases.take(args[0], result)
        elif name == "grad" and args[0].grad_fn is not None:
            self._shared.note_missing_grad(args[0], self._log)

    def _write(self, name: str, args: tuple[Any, ...]) -> None:
        """Note an attribute that the script set."""
        tensor, value = args
        if name == "data":
            self._cuts.replace("data=", tensor, value)
        elif name == "requires_grad" and not value:
            self._shared.freeze(tensor)

    def _note_effects(
        self, known: tuple[int, str], args: tuple[Any, ...], kwargs: dict[str, Any] | None, *, graphed: bool
    ) -> None:
        """Note the tensors that the call changed, and the parameters that it used."""
        kind, name = known
        if name == "embedding" and _renormalizes(args, kwargs):
            self.note_change(name, (args[1],), None)
        if kind == _IN_PLACE:
            if name == "_amp_foreach_non_finite_check_and_unscale_":
                self._shared.steps.unscaled()
            self.note_change(name, args, kwargs)
            self.note_use(args[1:], graphed=graphed)  # changing or initialising is no use
        elif kind != _PREPARES:
            self.note_use((*args, *kwargs.values()) if kwargs else args, graphed=graphed)
        if kwargs and kwargs.get("out") is not None:
            self.note_change(f"{name}(out=...)", (kwargs["out"],), None)

    def note_flows(self, numbers: list[int], pass_index: int) -> None:
        """Note that the graph with these nodes was run: cuts that went into it are final."""
        if self._flows:
            for number in self._flows.keys() & set(numbers):
                for cut in self._flows.pop(number):
                    cut.note_flow(pass_index)

    def note_change(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        """Note an in-place call."""
        changed = args[0] if args else (kwargs or {}).get("input")
        if isinstance(changed, (list, tuple)):
            pointers = tuple(t.untyped_storage().data_ptr() for t in changed if type(t) in TENSORS)
            version = -1
        elif isinstance(changed, torch.Tensor) and changed.layout is torch.strided:
            pointers, version = (changed.untyped_storage().data_ptr(),), changed._version
        else:
            return
        alias = self._shared.data.get(id(changed)) if self._shared.data else None
        if alias is not None and alias() is changed:
            change = UnseenChange(pointers[0], sequence_number(), name, find_user_place(sys._getframe(1))[0])
            self._shared.unseen.append(change)
        self._shared.changes.append((pointers, version, name, find_user_place(sys._getframe(1))[0]))

    def note_use(self, args: tuple[Any, ...], *, graphed: bool) -> None:
        """Note the parameters among these arguments, and whether the call made a graph."""
        for arg in args:
            kind = type(arg)
            if kind is torch.nn.Parameter:
                known = self._shared.used.get(id(arg))
                if (known is None or known() is not arg) and not is_wrapper_frame(sys._getframe(1)):
                    self._shared.used[id(arg)] = weakref.ref(arg)
                if graphed:
                    self._shared.graphed[id(arg)] = weakref.ref(arg)
            elif kind is list or kind is tuple:
                self.note_use(tuple(item for item in arg if type(item) is torch.nn.Parameter), graphed=graphed)

    def note_term(self, args: tuple[Any, ...]) -> None:
        """Note a summand of a loss that is computed from a gradient without a graph: it trains nothing."""
        for arg in args:
            if type(arg) is torch.Tensor and not arg.dim():
                for cut in self._cuts.of(arg):
                    cut.is_term |= not cut.is_scalar

    def note_flow(self, number: int, args: tuple[Any, ...]) -> None:
        """Note that the node with this number was computed from values that had lost their graph."""
        cuts = self._cuts.among(args)
        if cuts:
            self._flows[number] = cuts
            forget_oldest(self._flows)


def _renormalizes(args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> bool:
    """Tell whether an embedding changes its weight: ``max_norm`` is its fourth argument."""
    given = (kwargs or {}).get("max_norm", args[3] if len(args) > 3 else None)  # noqa: PLR2004
    return given is not None and len(args) > 1


_kinds: dict[Any, tuple[int, str]] = {}


def _kind(func: Any) -> tuple[int, str]:
    name = str(getattr(func, "__name__", ""))
    in_place = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
    in_place |= name.startswith("__i") and name.endswith("__") and name not in _NO_CHANGE
    if name in {"__get__", "__set__"}:
        kind = _READS if name == "__get__" else _WRITES
    elif in_place:
        kind = _IN_PLACE
    else:
        kind = _PAIR if name in PAIRED or name in MULTIPLIED else _PREPARES if name in _NO_USE else _PLAIN
        kind = _LOOKED if name == "embedding" else kind
    if name in {"__get__", "__set__"}:
        name = str(getattr(getattr(func, "__self__", None), "__name__", name))
    _kinds[func] = kind, name
    return kind, name
