"""History of leaves over a run: leftover gradients, steps taken on them, parameters never reached."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.facts.lost_graph import Cut, forget_oldest
from gradtrace.recording.stats.device import is_here
from gradtrace.recording.user_code.frames import Place, find_user_place
from gradtrace.recording.user_code.module_tree import named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.distributed.wrappers import Wrappers
    from gradtrace.recording.facts.shared import Shared
    from gradtrace.recording.user_code.variable_names import Names

__all__ = ["LeafFacts"]

_MANY = 100_000
_NUMBERS = itertools.count()
_UNKNOWN = -1  # version of a gradient
_SAMPLE = 64  # elements compared to see whether a changed gradient was zeroed

RunFact = tuple[str, tuple[int, ...], Place | None, dict[str, "Attribute"]]


class _Family:
    """A module that was called, and whether a pass reached one of its parameters."""

    __slots__ = ("reached",)

    def __init__(self) -> None:
        self.reached = False


class _Leaf:
    """A leaf or a parameter: who wants a gradient for it, and its ``.grad`` after a pass.

    Of the gradient: the tensor, weakly, its version, and over how many passes it adds up.
    """

    __slots__ = (
        "cuts", "families", "first", "grad", "graphed", "key", "leaf", "name", "number", "optimized", "passes",
        "reached", "ref", "shape", "stepped", "steps", "used", "version", "wanted",
    )  # fmt: skip

    def __init__(self, leaf: torch.Tensor, died: Callable[[_Leaf], None]) -> None:
        self.key = id(leaf)
        self.number = next(_NUMBERS)
        # A model may be freed with the function that trained it; its unreached parameters are noted then.
        self.leaf = weakref.ref(leaf, lambda _: died(self))
        self.ref = weakref.ref(leaf)  # one object for each tensor, so that others recognise it when it has died
        self.name = ""
        self.wanted = leaf.requires_grad
        self.first = leaf._version  # raised by the script's own changes
        self.optimized = self.reached = self.used = self.graphed = False
        self.families: list[_Family] = []
        self.cuts: list[Cut] = []
        self.grad: weakref.ref[torch.Tensor] | None = None
        self.version = 0
        self.passes = 0
        self.shape: tuple[int, ...] = ()  # of those in an optimizer; reading it would be traced
        self.steps: set[int] = set()  # last pass before each step of its optimizer
        self.stepped = False  # an optimizer used the gradient in it

    def is_missing(self, *, optimized: bool) -> bool:
        """Tell whether a gradient was wanted and none came: by an optimizer, or else by a module that got others.

        Without an optimizer, a module of which nothing was reached is taken for a fixed one.
        """
        leaf = self.leaf()
        wanted = self.wanted if leaf is None else leaf.requires_grad
        expected = self.optimized if optimized else any(family.reached for family in self.families)
        return wanted and expected and not self.reached


class LeafFacts:
    """Tracks leaves through passes and steps; keeps none of them alive."""

    def __init__(self, shared: Shared, wrappers: Wrappers) -> None:
        self.reused: list[RunFact] = []
        self.names: dict[int, str] = {}
        self._shared = shared
        self._wrappers = wrappers
        self._leaves: dict[int, _Leaf] = {}
        self._gone: deque[_Leaf] = deque(maxlen=_MANY)  # that no pass had reached
        self._steps: weakref.WeakKeyDictionary[torch.optim.Optimizer, set[int]] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._optimized = self._has_untrained = False
        self._last = self._last_step = 0
        self._in_step: deque[int] = deque(maxlen=1000)  # number of passes accumulated by each pass since the step began
        self._evaluations = 0
        self.failed = 0  # the last pass that ended in an error
        self._learned: object = None  # the names of parameters, of which there are many

    def learn(self, names: Names) -> None:
        """Learn the names of tensors."""
        self.names |= names.variables
        if names.parameters is not self._learned:
            self._learned = names.parameters
            self.names |= names.by_id()
        forget_oldest(self.names, _MANY)

    def before(self, pass_index: int, call: EngineCall, graph: Walk) -> dict[int, tuple[int, ...]]:
        """Return the positions of the leaves that accumulate into an existing ``.grad``, by the number of passes."""
        self._last = pass_index
        most = 0
        found: dict[int, list[int]] = {}
        for position, leaf in self.parameters(graph):
            held = self._of(leaf)
            held.reached = True
            for family in held.families:
                family.reached = True
            if call.accumulates:
                held.passes = held.passes + 1 if self._left_over(held, leaf) else 1
                held.stepped &= held.passes > 1
                most = max(most, held.passes)
                if held.passes > 1:
                    found.setdefault(held.passes, []).append(position)
        self._in_step.append(most)
        return {passes: tuple(positions) for passes, positions in found.items()}

    def read(self, leaves: Iterable[torch.Tensor]) -> None:
        """Note that the last pass, whose start and end were not observed, left the first gradients in these."""
        with torch._C.DisableTorchFunction():
            for leaf in leaves:
                held, grad = self._of(leaf), leaf.grad
                held.grad = None if grad is None else weakref.ref(grad)
                held.version = _UNKNOWN
                held.passes = 1

    def after(self, call: EngineCall, graph: Walk) -> None:
        """Note the gradients after the engine has returned."""
        if call.accumulates:
            for _, leaf in self.parameters(graph):
                held, grad = self._of(leaf), leaf.grad
                held.grad = None if grad is None else weakref.ref(grad)
                held.version = 0 if grad is None else grad._version

    def untrained(self, graph: Walk) -> tuple[int, ...]:
        """Return the positions of parameters in no optimizer, once some optimizer has stepped.

        Those that the script changes itself, in place, are trained by it.
        """
        if not self._optimized:
            return ()
        found = [(at, self._of(leaf), leaf) for at, leaf in self.parameters(graph) if type(leaf) is torch.nn.Parameter]
        alone = tuple(at for at, held, leaf in found if not held.optimized and held.first == leaf._version)
        self._has_untrained |= bool(alone)
        return alone

    def parameters(self, graph: Walk) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the position of each leaf, and the parameter that it is, or that it stands for."""
        shards = self._wrappers.shards()
        for position in graph.leaves:
            leaf = graph.nodes[position].variable
            yield position, shards.get(id(leaf), leaf)

    def _of(self, leaf: torch.Tensor) -> _Leaf:
        found = self._leaves.get(id(leaf))
        if found is None or found.leaf() is not leaf:
            forget_oldest(self._leaves, _MANY)
            found = self._leaves[id(leaf)] = _Leaf(leaf, self._died)
        return found

    def _died(self, leaf: _Leaf) -> None:
        if self._leaves.get(leaf.key) is not leaf:
            return
        del self._leaves[leaf.key]
        if not leaf.reached and leaf.wanted and (leaf.optimized or leaf.families):
            self._learn(leaf)
            self._gone.append(leaf)
        for known in (*(cut.params for cut in self._shared.cuts.all), self._shared.used, self._shared.graphed):
            if known.get(leaf.key) is leaf.ref:
                del known[leaf.key]

    def _learn(self, leaf: _Leaf) -> None:
        """Set the name of a leaf and whether it was used, looked up by its id."""
        leaf.name = self.names.get(leaf.key) or leaf.name
        leaf.used = self._shared.used.get(leaf.key) is leaf.ref
        leaf.graphed = self._shared.graphed.get(leaf.key) is leaf.ref
        behind = [cut for cut in self._shared.cuts.all if cut.params.get(leaf.key) is leaf.ref]
        leaf.cuts = [cut for cut in behind if self._explains(cut, leaf)]

    @staticmethod
    def _explains(cut: Cut, leaf: _Leaf) -> bool:
        """Tell whether a cut may explain a missing gradient: a cut of a parameter that nothing used is a copy of it."""
        return bool(cut.flows) or leaf.used or leaf.key not in cut.direct

    def _left_over(self, held: _Leaf, leaf: torch.Tensor) -> bool:
        """Tell whether the gradient of an earlier pass is still in ``.grad``, perhaps scaled or clipped."""
        grad = leaf.grad
        if grad is None or held.grad is None or held.grad() is not grad:
            return False
        if grad._version == held.version:
            return True
        if type(grad) is not torch.Tensor or not is_here(grad) or grad.layout is not torch.strided:
            return False  # a read would block the script, or start communication between processes
        return bool(grad.detach().reshape(-1)[:_SAMPLE].any())

    def called(self, module: torch.nn.Module) -> None:
        """Note that a module was called."""
        if module in self._known:
            return
        self._known.add(module)
        family = _Family()
        with torch._C.DisableTorchFunction():
            shards = self._wrappers.shards()
            for name, parameter in named_tensors(module, buffers=False):
                leaf = self._of(shards.get(id(parameter), parameter))
                leaf.name = leaf.name or name
                leaf.families.append(family)
                family.reached |= leaf.reached

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step on gradients that an earlier step has used, and that a later pass has added to."""
        self._optimized = self._shared.is_stepping = True
        self._last_step = self._last
        self._in_step.clear()
        self._evaluations = _evaluations(optimizer)
        again, passes = [], 0
        steps = self._steps.setdefault(optimizer, set())
        if len(steps) < _SAMPLE:
            steps.add(self._last)
        with torch._C.DisableTorchFunction():
            for leaf in _parameters(optimizer):
                held = self._of(leaf)
                held.optimized, held.wanted, held.steps = True, leaf.requires_grad, steps
                held.shape = held.shape or tuple(leaf.shape)
                held.reached |= leaf.grad is not None  # may be assigned by the script itself
                if held.stepped and held.passes > 1 and leaf.grad is not None and self._left_over(held, leaf):
                    again.append(self.names.get(id(leaf), ""))
                    passes = max(passes, held.passes)
                held.stepped = held.passes > 0
        if again:
            place = find_user_place(sys._getframe(1))[0]
            data: dict[str, Any] = {"names": again[:_SAMPLE], "count": len(again), "passes": passes, "pass": self._last}
            self._note_reused(place, data)

    def stepped(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a closure that adds up the gradients of all its evaluations: it zeroes none of them."""
        self._last_step = self._last
        evaluations = _evaluations(optimizer) - self._evaluations
        if evaluations > 1 and len(self._in_step) >= evaluations and sum(most == 1 for most in self._in_step) <= 1:
            with torch._C.DisableTorchFunction():
                names: list[Any] = [self.names.get(id(leaf), "") for leaf in _parameters(optimizer)][:_SAMPLE]
            data = {"names": names, "count": len(names), "passes": max(self._in_step), "pass": self._last}
            self._note_reused(find_user_place(sys._getframe(1))[0], {**data, "closure": True})

    def _added_at_end(self) -> RunFact | None:
        """Return the parameters with a used gradient to which passes after the last step have added."""
        held = [leaf for leaf in self._leaves.values() if leaf.optimized and leaf.stepped and leaf.passes > 1]
        if self.reused or not held or self._last <= self._last_step or self.failed == self._last:
            return None
        names: list[Attribute] = [self.names.get(leaf.key) or leaf.name for leaf in held[:_SAMPLE]]
        passes = max(leaf.passes for leaf in held)
        data: dict[str, Attribute] = {"names": names, "count": len(held), "passes": passes, "pass": self._last}
        return "reused", (), None, {**data, "times": 1, "end": True}

    def _note_reused(self, place: Place | None, data: dict[str, Any]) -> None:
        """Note the first occurrence at each line that steps, and count the others."""
        for _, _, known, found in self.reused:
            if known == place:
                found["times"] = int(found["times"]) + 1  # type: ignore[arg-type]
                return
        self.reused.append(("reused", (), place, {**data, "times": 1}))

    def of_run(self) -> list[RunFact]:
        """Return the parameters that no pass reached, first those whose path was cut at a known line.

        A cut whose result went on into the loss, as far as is known, is the fault; of one whose result was
        not seen again, only the line is told.
        """
        alive = [leaf for leaf in self._leaves.values() if leaf.leaf() is not None]
        with torch._C.DisableTorchFunction():
            missing = [leaf for leaf in (*self._gone, *alive) if leaf.is_missing(optimized=self._optimized)]
        missing.sort(key=lambda leaf: leaf.number)
        for leaf in missing:
            if leaf.leaf() is not None:
                self._learn(leaf)
        found: list[RunFact] = [("optimizer", (), None, {})] if self._optimized else []
        groups: dict[tuple[Cut | None, bool, bool], list[Attribute]] = {}
        for leaf in missing if self._last else ():
            cut = min(leaf.cuts, key=lambda cut: cut.rank(leaf.steps), default=None)
            groups.setdefault((cut, leaf.used, leaf.used and not leaf.graphed), []).append(
                leaf.name or list(leaf.shape)
            )
        for cut in self._shared.cuts.all if not self._optimized else ():
            groups.setdefault((cut, True, False), []).extend(self._plain(cut))
        found += self._behind_cuts(groups)
        at_end = self._added_at_end()
        found += [at_end] if at_end is not None else []
        for (cut, used, idle), names in groups.items():
            found += [_missing(cut, names, used=used, idle=idle)] if names else []
        return [self._replaced(fact) for fact in found]

    def _replaced(self, fact: RunFact) -> RunFact:
        """Return the fact of tensors held by the optimizer alone, perhaps since others took their place."""
        kind, positions, place, data = fact
        names = data.get("names")
        if not self._has_untrained or data.get("used") or not isinstance(names, list):
            return fact
        gone = kind == "unreached" and all(isinstance(name, list) for name in names)
        return (kind, positions, place, {**data, "replaced": True}) if gone else fact

    def _behind_cuts(self, told: dict[tuple[Cut | None, bool, bool], list[Attribute]]) -> Iterator[RunFact]:
        """Yield the explicit cuts before parameters of modules without any gradient, in a run without optimizer.

        Such modules may be fixed on purpose: the fact says ``maybe``.
        """
        for cut in self._shared.cuts.all if not self._optimized else ():
            others = [(key, ref) for key, ref in cut.params.items() if key not in cut.direct]
            known = [leaf for key, ref in others if (leaf := self._leaves.get(key)) is not None and leaf.ref is ref]
            known.sort(key=lambda leaf: leaf.number)
            names: list[Attribute] = [self.names.get(leaf.key) or leaf.name for leaf in known if not leaf.reached]
            if cut.flows and cut.how != "no_grad" and names and not told.get((cut, True, False)):
                yield "detached", (), cut.place, {"how": cut.how, "names": names, "pass": cut.flow, "maybe": True}

    def _plain(self, cut: Cut) -> Iterator[str]:
        """Yield the names of variables behind a cut that went into the loss, and reached by no pass."""
        for key, ref in cut.params.items() if cut.flow else ():
            name = self.names.get(key, "")
            if ref() is not None and key not in self._leaves and name.isidentifier():
                yield name


def _missing(cut: Cut | None, names: list[Attribute], *, used: bool, idle: bool) -> RunFact:
    """Return the fact of parameters without a gradient; ``idle``: every use of them ran without a graph."""
    data: dict[str, Attribute] = {"names": names, "used": used}
    if idle:
        data["idle"] = True
    if cut is None:
        return "unreached", (), None, data
    if cut.flow:
        return "detached", (), cut.place, {**data, "how": cut.how, "pass": cut.flow}
    return "unreached", (), cut.place, {**data, "used": True, "how": cut.how}


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _evaluations(optimizer: torch.optim.Optimizer) -> int:
    """Return the number of closure calls of an optimizer that makes several in a step (LBFGS)."""
    return max((int(state.get("func_evals", 0)) for state in optimizer.state.values()), default=0)
