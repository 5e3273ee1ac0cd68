"""Births of values that are not finite, found by comparing the operands and the result of each torch call.

A call whose operands are finite and whose result is not is a birth, and so is one that makes NaN of infinities.
Calls that only carry such a value, with a graph or without one, pass its origin on. An infinity that the
script writes (the ``-inf`` of a mask) is given: the call that makes NaN of it is the birth. Operands are read only
where a result is not finite, while they are at hand.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.ops import ELEMENTWISE, call_name
from gradtrace.recording.facts.nonfinite_circumstances import circumstances
from gradtrace.recording.facts.nonfinite_element import first_index, holds_nonfinite, value_at
from gradtrace.recording.stats.device import is_here
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.model import Attribute

__all__ = ["Births", "Origin"]

_TENSORS = {torch.Tensor, torch.nn.Parameter}
_MANY = 2_000  # broken tensors that are tracked
_OFTEN = 200  # inspections of a line; later calls are taken to be like the last
_SWALLOWS = {"rsqrt", "reciprocal", "div"}
_HALF = {torch.float16}
_BORN = ("born",)


class Origin:
    """Origin of a value that is not finite.

    ``kind`` is ``born`` by a call, ``given`` by the script as it is, found in ``data`` that no call made, or in a
    ``leaf``, or ``unseen`` where a call made it that was not seen. ``number`` is that of the node the call made, in
    the log of one thread; ``entered`` are place and number of the first call with a graph that it went into.
    """

    __slots__ = ("data", "entered", "kind", "leaf", "log", "number", "place")

    def __init__(self, kind: str, place: Place | None, log: Any, number: int, data: dict[str, Attribute]) -> None:
        self.kind = kind
        self.place = place
        self.log = log
        self.number = number
        self.data = data
        self.entered: At | None = None
        self.leaf: weakref.ref[torch.Tensor] | None = None


Origins = tuple[Origin, ...]
Args = tuple[Any, ...]
Kwargs = dict[str, Any] | None
# The place of a call, the log of its thread, and the number of its node there, or -1.
At = tuple[Place | None, Any, int]


class _Broken:
    """A tensor that is not finite, held weakly, with its origin."""

    __slots__ = ("origins", "tensor")

    def __init__(self, tensor: torch.Tensor, origins: Origins) -> None:
        self.tensor = weakref.ref(tensor)
        self.origins = origins


class Births:
    """Tracks values that are not finite, in all threads."""

    def __init__(self) -> None:
        self._broken: dict[int, _Broken] = {}
        self._numbers: dict[tuple[Any, int], Origins] = {}
        self._times: dict[tuple[int, int], int] = {}
        self._same: dict[tuple[int, int], Origin] = {}

    def __bool__(self) -> bool:
        """Tell whether a tensor is tracked."""
        return bool(self._broken)

    def of(self, tensor: torch.Tensor) -> Origins:
        """Return the origin of this tensor's values that are not finite, None if unknown."""
        known = self._broken.get(id(tensor))
        if known is not None and known.tensor() is tensor:
            return known.origins
        base = tensor._base
        return self.of(base) if base is not None else ()

    def of_number(self, log: Any, number: int) -> Origins:
        """Return the origin for the output of the node with this number."""
        return self._numbers.get((log, number), ())

    def see(self, call: tuple[str, Args, Kwargs], result: torch.Tensor, log: Any, number: int) -> None:
        """Note a result that is not finite, of a call with these arguments; ``number`` is its node's, or -1."""
        name, args, kwargs = call
        in_place = bool(args) and args[0] is result
        if number < 0 and not in_place and self.of(result):
            return  # inside a custom Function, whose own call is observed afterwards
        place = find_user_place(sys._getframe(1))[0]
        origins = self._origins(_Call(name, args, kwargs, result, (place, log, number)))
        self._remember(result, origins, log, number)

    def swallowed(self, name: str, args: tuple[Any, ...], result: torch.Tensor) -> Origin | None:
        """Return the overflow in half precision that this call turned into zeros, which hides it."""
        if call_name(name)[0] not in _SWALLOWS or result.dtype not in _HALF or not is_here(result):
            return None
        divisors = args[-1:] if call_name(name)[0] == "div" and not call_name(name)[1] else args[:1]
        for arg in divisors:
            origins = self.of(arg) if type(arg) in _TENSORS else ()
            born = next((o for o in origins if o.kind == "born" and o.data["what"] == "infinity"), None)
            if born is not None and bool((result == 0).any()):
                return born
        return None

    def _remember(self, result: torch.Tensor, origins: Origins, log: Any, number: int) -> None:
        if len(self._broken) > _MANY:
            self._broken = {key: known for key, known in self._broken.items() if known.tensor() is not None}
        if len(self._broken) <= _MANY:
            self._broken[id(result)] = _Broken(result, origins)
        if number >= 0:
            self._numbers[log, number] = origins
            if len(self._numbers) > _MANY:
                self._numbers = dict(itertools.islice(self._numbers.items(), _MANY // 2, None))

    def _origins(self, call: _Call) -> Origins:
        """Return the origin of a result's values that are not finite: this call, or an earlier one."""
        carried: dict[Origin, None] = {}
        for operand in call.broken:
            known = () if operand.is_leaf and operand.requires_grad else self.of(operand)
            carried.update(dict.fromkeys(known or (self._unknown(operand),)))
        if call.changed is not None:
            carried.update(dict.fromkeys(self.of(call.changed)))
        if not carried and not call.writes_infinity:
            return (self._birth(call, "finite"),) if call.operates else (self._given(call),)
        if call.makes_nan():
            born = tuple(origin for origin in carried if origin.kind == "born")
            return born or (self._birth(call, "infinities"),)
        if call.writes_infinity:
            carried[self._given(call)] = None
        # An element may break in consequence of another broken one: 1 / inf is 0, whose log is not finite.
        explained = call.writes_infinity or any(origin.kind == "born" for origin in carried)
        fresh = (self._birth(call, "finite"),) if not explained and call.breaks_elsewhere() else ()
        self._enter(call, carried)
        return (*carried, *fresh)

    def _birth(self, call: _Call, came_in: str) -> Origin:
        return self._once(call, lambda: Origin("born", *call.at, {**call.described(), "from": came_in}))

    def _given(self, call: _Call) -> Origin:
        made = Origin("given", *call.at, {"what": call.what(), "op": call.name})
        if call.at[2] >= 0:
            made.entered = call.at
        return made

    def _once(self, call: _Call, make: Any) -> Origin:
        """Return a new origin; for a line with very many, the last one again, at the new node."""
        place = call.at[0]
        key = (id(place[0]), place[1]) if place else (0, 0)
        self._times[key] = self._times.get(key, 0) + 1
        if self._times[key] > _OFTEN and key in self._same:
            return Origin("born", *call.at, self._same[key].data)
        self._same[key] = made = make()
        return made  # type: ignore[no-any-return]

    def _unknown(self, operand: torch.Tensor) -> Origin:
        """Return the origin of an operand that no observed call returned."""
        what = _what(operand)
        shape: list[Attribute] = list(operand.shape)
        leaf = operand.is_leaf and operand.requires_grad
        kind = "leaf" if leaf else "unseen" if operand.requires_grad else "data"
        written = next(iter(self.of(operand)), None)
        place = None if written is None else written.place
        origin = Origin(kind, place, None, -1, {"what": what, "shape": shape})
        origin.leaf = weakref.ref(operand)
        if len(self._broken) <= _MANY and not leaf:
            self._broken[id(operand)] = _Broken(operand, (origin,))
        return origin

    @staticmethod
    def _enter(call: _Call, carried: Iterable[Origin]) -> None:
        if call.at[2] >= 0:
            for origin in carried:  # a birth without a graph may enter one too
                origin.entered = origin.entered or call.at


class _Call:
    """A call whose result is not finite."""

    def __init__(self, name: str, args: Args, kwargs: Kwargs, result: torch.Tensor, at: At) -> None:
        self.name, swapped = call_name(name)
        self.args = (*(args[::-1] if swapped else args), *(kwargs or {}).values())
        self.kwargs = kwargs or {}
        self.result = result.detach()
        self.at = at
        self.changed = result if any(arg is result for arg in args) else None
        tensors = [t for t in _tensors(self.args) if t is not result]
        self.operates = bool(tensors) or self.changed is not None
        self.tensors = [t.detach() for t in tensors if t.is_floating_point()]
        self.broken = [t for t in tensors if t.is_floating_point() and is_here(t) and holds_nonfinite(t)]

    @property
    def writes_infinity(self) -> bool:
        """Tell whether the script passed a number that is not finite."""
        return any(type(arg) is float and not isfinite(arg) for arg in self.args)

    def what(self) -> str:
        return _what(self.result)

    def makes_nan(self) -> bool:
        """Tell whether the result holds NaN and no operand does."""
        given = any(type(arg) is float and arg != arg for arg in self.args)  # noqa: PLR0124 - NaN
        if given or any(bool(t.isnan().any()) for t in self.broken):
            return False
        return bool(self.result.isnan().any())

    def breaks_elsewhere(self) -> bool:
        """Tell whether an element is broken where all operands are finite, for elementwise ops."""
        return self.name in ELEMENTWISE and self._fresh() is not None

    def _fresh(self) -> tuple[int, ...] | None:
        """Return the first broken element at which all operands are finite."""
        mask = ~self.result.isfinite()
        for tensor in self.tensors if self.name in ELEMENTWISE else ():
            try:
                mask = mask & tensor.isfinite().broadcast_to(mask.shape)
            except RuntimeError:
                return None
        return first_index(mask)

    def described(self) -> dict[str, Attribute]:
        """Return the data of a birth: the element, the operands there, and details of the op."""
        nan = self.makes_nan()
        index = (None if nan else self._fresh()) or first_index(self.result.isnan()) or ()
        operands: list[Attribute] = [self._operand(arg, index) for arg in self.args]
        return {
            "op": self.name, "what": self.what(), "count": int((~self.result.isfinite()).sum()),
            "shape": list(self.result.shape), "dtype": str(self.result.dtype).removeprefix("torch."),
            "element": list(index), "operands": operands, **circumstances(self.name, self.args, self.kwargs),
        }  # fmt: skip

    def _operand(self, arg: Any, index: tuple[int, ...]) -> list[Attribute] | None:
        """Return the value of an operand at the element, its shape, and its smallest and largest number."""
        if type(arg) in (int, float, bool):
            return [_number(float(arg)), [], None, None]
        if type(arg) not in _TENSORS or not is_here(arg) or arg is self.changed:
            return None
        tensor = arg.detach()
        value = value_at(tensor, self.result.shape, index) if self.name in ELEMENTWISE else None
        finite = tensor[tensor.isfinite()] if tensor.is_floating_point() else tensor.flatten()
        ends = [float(finite.min()), float(finite.max())] if finite.numel() else [None, None]
        return [value, list(tensor.shape), *ends]


def _what(tensor: torch.Tensor) -> str:
    return "NaN" if bool(tensor.isnan().any()) else "infinity"


def _tensors(args: Iterable[Any]) -> Iterator[torch.Tensor]:
    for arg in args:
        if type(arg) in _TENSORS:
            yield arg
        elif type(arg) is list or type(arg) is tuple:
            yield from (item for item in arg if type(item) in _TENSORS)


def _number(value: float) -> float | str:
    return value if isfinite(value) else str(value)
