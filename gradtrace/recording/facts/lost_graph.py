"""Cuts: places where values left the graph, detached, computed without it, rounded, or taken out of torch.

The value is tracked from there as far as it is visible: through torch calls by the tensor, and
out of torch and back by the number, the list or the memory that the script was given.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.distributed.wrappers import is_wrapper_frame
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["TENSORS", "Cut", "Cuts", "forget_oldest"]

TENSORS = (torch.Tensor, torch.nn.Parameter)
_LOST = 10_000  # live tensors that lost their graph
_FLOWS = 100
_WALKS = 50  # walks of one line to find the parameters behind it
_EXITS = {"item", "tolist", "numpy", "__float__", "__int__", "__array__"}
_LEAVING = {*_EXITS, "detach", "data", "no_grad", "tensor"}
_GRAPHLESS = {"detach", "argmax", "Parameter", "Variable", "data="}  # with gradients enabled and without
_NUMBERS = (float, list)
_COPYING = {"deepcopy", "state_dict"}
_DEEP = 12  # frames between a call of torch and the user's line


class Cut:
    """Place where a value lost its graph, and the call that cut it.

    ``params`` are the parameters that it depended on, weakly, by their ids: an id alone is given to another
    tensor when its own has died.
    """

    __slots__ = ("direct", "flows", "how", "is_scalar", "is_term", "params", "place", "walks")

    def __init__(self, place: Place | None, how: str) -> None:
        self.place = place
        self.how = how
        self.params: dict[int, weakref.ref[torch.Tensor]] = {}
        self.is_scalar = False  # a single number, such as a baseline or a straight-through estimate
        self.is_term = False  # its result was added to a loss
        self.direct: set[int] = set()  # ids of the parameters that were cut themselves
        self.flows: dict[int, None] = {}  # passes whose graph the result entered
        self.walks = 0  # number of walks from tensors cut at this place to their parameters

    @property
    def flow(self) -> int:
        """The first pass whose graph the result entered, or 0."""
        return next(iter(self.flows), 0)

    def rank(self, stepped: set[int]) -> int:
        """Return a rank as an explanation of a missing gradient: lower is better.

        A cut is best in the last pass before a step that should have moved the parameter.
        """
        if self.flows:
            return 0 if not stepped.isdisjoint(self.flows) else 1
        return 2 if self.how in _LEAVING else 3

    def note_flow(self, pass_index: int) -> None:
        """Note that the result entered the graph of this pass."""
        if len(self.flows) < _FLOWS:
            self.flows[pass_index] = None


class _Lost(weakref.ref[torch.Tensor]):
    """A tensor that lost its graph, with its cuts."""

    __slots__ = ("cuts", "key")
    cuts: tuple[Cut, ...]
    key: int


class Cuts:
    """The values that lost their graph, in all threads."""

    def __init__(self) -> None:
        self._lost: dict[int, _Lost] = {}
        # Entries of freed tensors are dropped here: a weakref callback would swallow a Ctrl-C raised in it.
        self._dead: list[weakref.ref[torch.Tensor]] = []
        # Values given to the script in place of a tensor, by id; kept alive, so that no other object gets the id.
        self.numbers: dict[int, tuple[Any, tuple[Cut, ...]]] = {}
        self.memory: dict[int, tuple[Cut, ...]] = {}  # of arrays, by address
        self._known: dict[tuple[int, int, str], tuple[Any, Cut]] = {}

    @property
    def all(self) -> list[Cut]:
        """All cuts."""
        return [cut for _, cut in self._known.values()]

    def __bool__(self) -> bool:
        """Tell whether a value is tracked."""
        if self._dead:
            self._forget_dead()
        return bool(self._lost or self.numbers or self.memory)

    def of(self, value: Any) -> tuple[Cut, ...]:
        """Return the cuts of a value; none if it has a graph, or never had one."""
        kind = type(value)
        if kind in _NUMBERS:
            number = self.numbers.get(id(value))
            return number[1] if number is not None else ()
        if kind not in TENSORS or _has_graph(value):
            return ()
        return self.behind(value) or (self.memory.get(value.data_ptr(), ()) if self.memory else ())

    def behind(self, tensor: torch.Tensor) -> tuple[Cut, ...]:
        """Return the cuts of this tensor object, even if it has begun a new graph since."""
        lost = self._lost.get(id(tensor))
        return lost.cuts if lost is not None and lost() is tensor else ()

    def among(self, args: Iterable[Any]) -> tuple[Cut, ...]:
        """Return the cuts of these arguments."""
        return tuple(dict.fromkeys(cut for arg in _flat(args) for cut in self.of(arg)))

    def note(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Note a result without a graph, computed from a value that has one or lost one."""
        kind = type(result)
        leaves_torch = name in _EXITS
        if not leaves_torch and (kind is not torch.Tensor or (_has_graph(result) and not _is_new_leaf(result, args))):
            return
        cuts: dict[Cut, None] = {}
        for arg in _flat(args):
            before = self.of(arg) if self else ()
            cuts.update(dict.fromkeys(before))
            if not before and type(arg) in TENSORS and arg.requires_grad and not _is_copied():
                cuts[self._at(name, arg)] = None
        if cuts and leaves_torch:
            self._give(result, tuple(cuts))
        elif cuts:
            self.lose(result, tuple(cuts))

    def replace(self, name: str, tensor: torch.Tensor, value: Any) -> None:
        """Note that the script made a leaf of ``value``, or assigned it to ``tensor.data``, by the call ``name``."""
        cuts = dict.fromkeys(self.of(value) if self else ())
        if not cuts and type(value) in TENSORS and value.grad_fn is not None:
            cuts[self._at(name, value)] = None
        if cuts:
            self.lose(tensor, tuple(cuts))

    def lose(self, result: torch.Tensor, cuts: tuple[Cut, ...]) -> None:
        """Note that these cuts are the reason why a tensor has no graph."""
        self._forget_dead()
        if len(self._lost) < _LOST:
            lost = _Lost(result, self._dead.append)
            lost.cuts, lost.key = cuts, id(result)
            self._lost[lost.key] = lost

    def _forget_dead(self) -> None:
        while self._dead:
            dead = self._dead.pop()
            if isinstance(dead, _Lost) and self._lost.get(dead.key) is dead:
                del self._lost[dead.key]

    def _give(self, result: Any, cuts: tuple[Cut, ...]) -> None:
        if type(result) in _NUMBERS:
            forget_oldest(self.numbers)
            self.numbers[id(result)] = result, cuts
        elif hasattr(result, "__array_interface__"):
            forget_oldest(self.memory, 100)  # the address may be reused by another array
            self.memory[result.__array_interface__["data"][0]] = cuts

    def _at(self, name: str, tensor: torch.Tensor) -> Cut:
        """Return the cut at the running line, extended by the parameters behind ``tensor``."""
        place = find_user_place(sys._getframe(1))[0]
        graphless = torch.is_grad_enabled() or name in _EXITS or name in _GRAPHLESS
        how = name if graphless else "no_grad"
        # Code objects are kept alive beside their cuts, so that their ids are not reused.
        key = (id(place[0]), place[1], how) if place else (0, 0, how)
        if key not in self._known:
            self._known[key] = place, Cut(place, how)
        cut = self._known[key][1]
        cut.is_scalar |= not tensor.dim()
        if tensor.grad_fn is None:
            cut.params[id(tensor)] = weakref.ref(tensor)
            cut.direct.add(id(tensor))
        elif cut.walks < _WALKS:
            cut.walks += 1
            cut.params.update(_parameters(tensor))
        return cut


def forget_oldest(found: dict[Any, Any], limit: int = 10_000) -> None:
    """Drop the older half of a table above ``limit`` entries, because runs may be long."""
    if len(found) > limit:
        for key in list(found)[: limit // 2]:
            found.pop(key, None)


def _flat(args: Iterable[Any]) -> Iterator[Any]:
    """Yield the arguments, and the items of those that are lists."""
    for arg in args:
        yield arg
        if type(arg) is list or type(arg) is tuple:
            yield from (item for item in arg if type(item) in TENSORS or type(item) is float)


def _is_new_leaf(result: torch.Tensor, args: tuple[Any, ...]) -> bool:
    """Tell whether a result begins a graph of its own, as ``torch.tensor(loss, requires_grad=True)`` does."""
    return result.grad_fn is None and result._base is None and all(arg is not result for arg in args)


def _is_copied() -> bool:
    """Tell whether ``copy.deepcopy()``, ``state_dict()`` or DDP reads the values, outside of any forward."""
    frame: Any = sys._getframe(2)
    if is_wrapper_frame(frame):
        return True
    for _ in range(_DEEP):
        if frame is None or frame.f_code.co_name in _COPYING:
            return frame is not None
        frame = frame.f_back
    return False


def _has_graph(tensor: torch.Tensor) -> bool:
    """Tell whether gradients flow through a tensor; a view made under no_grad() requires grad without a graph."""
    if not tensor.requires_grad or tensor.grad_fn is not None:
        return bool(tensor.requires_grad)
    return tensor._base is None or torch.is_grad_enabled()


def _parameters(tensor: torch.Tensor) -> dict[int, weakref.ref[torch.Tensor]]:
    """Return the leaves behind a tensor by id, searching ten thousand nodes at most."""
    nodes = [tensor.grad_fn]
    seen = set(nodes)
    for node in nodes:
        fresh = {target for target, _ in node.next_functions if target is not None} - seen  # type: ignore[union-attr]
        seen |= fresh
        nodes += fresh
        if len(nodes) > 10_000:  # noqa: PLR2004 - once per line of the script, so it must not take long
            break
    leaves = [node.variable for node in nodes if type(node).__name__ == "AccumulateGrad"]  # type: ignore[union-attr]
    return {id(leaf): weakref.ref(leaf) for leaf in leaves}
