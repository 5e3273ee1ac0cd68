"""What happened to leaves over a run: gradients left over, steps taken on them, parameters never reached."""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradtrace.recording.away import is_here
from gradtrace.recording.seen import forget_oldest
from gradtrace.recording.sources import Place, locate

if TYPE_CHECKING:
    from gradtrace.model import Attribute
    from gradtrace.recording.names import Names
    from gradtrace.recording.passes import EngineCall
    from gradtrace.recording.raw import RawPass
    from gradtrace.recording.seen import Cut
    from gradtrace.recording.walk import Walk

__all__ = ["LeafFacts", "LeafHooks"]

_SAMPLE = 64  # elements that tell whether a changed gradient was zeroed

RunFact = tuple[str, tuple[int, ...], Place | None, dict[str, "Attribute"]]


class _Held:
    """A leaf's ``.grad`` after a pass: the tensor, weakly, its version, and since when it adds up."""

    __slots__ = ("grad", "leaf", "passes", "stepped", "version")

    def __init__(self, leaf: torch.Tensor) -> None:
        self.leaf = weakref.ref(leaf)
        self.grad: weakref.ref[torch.Tensor] | None = None
        self.version = 0
        self.passes = 0
        self.stepped = False  # an optimizer used what is in it


class LeafFacts:
    """Follows leaves through passes and steps; keeps none of them alive."""

    def __init__(self) -> None:
        self.reused: list[RunFact] = []
        self._held: dict[int, _Held] = {}
        self.names: dict[int, str] = {}
        self._roots: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._last = 0

    def learn(self, names: Names) -> None:
        """Learn the names of tensors."""
        self.names |= names.tensors
        forget_oldest(self.names, 100_000)

    def before(self, raw: RawPass, call: EngineCall, graph: Walk) -> dict[int, tuple[int, ...]]:
        """Return the positions of the leaves that add to what is in ``.grad`` already, by the number of passes."""
        self._last = raw.index
        found: dict[int, list[int]] = {}
        for position in graph.leaves:
            leaf = graph.nodes[position].variable
            held = self._of(leaf)
            if call.accumulates:
                held.passes = held.passes + 1 if self._left_over(held, leaf) else 1
                held.stepped &= held.passes > 1
                if held.passes > 1:
                    found.setdefault(held.passes, []).append(position)
        return {passes: tuple(positions) for passes, positions in found.items()}

    def after(self, call: EngineCall, graph: Walk) -> None:
        """Note the gradients that are there when the engine has returned."""
        if call.accumulates:
            for position in graph.leaves:
                leaf = graph.nodes[position].variable
                held, grad = self._of(leaf), leaf.grad
                held.grad = None if grad is None else weakref.ref(grad)
                held.version = 0 if grad is None else grad._version

    def _of(self, leaf: torch.Tensor) -> _Held:
        held = self._held.get(id(leaf))
        if held is None or held.leaf() is not leaf:
            forget_oldest(self._held, 100_000)
            held = self._held[id(leaf)] = _Held(leaf)
        return held

    def _left_over(self, held: _Held, leaf: torch.Tensor) -> bool:
        """Tell whether what an earlier pass left in ``.grad`` is still in it, perhaps scaled or clipped."""
        grad = leaf.grad
        if grad is None or held.grad is None or held.grad() is not grad:
            return False
        if grad._version == held.version:
            return True
        if type(grad) is not torch.Tensor or not is_here(grad) or grad.layout is not torch.strided:
            return False  # looking would make the script wait, or other processes talk
        return bool(grad.detach().reshape(-1)[:_SAMPLE].any())

    def called(self, module: torch.nn.Module) -> None:
        """Note that a module was called."""
        self._roots.add(module)

    def step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        """Note a step on gradients that an earlier step has used, and that a later pass has added to."""
        self._optimizers.add(optimizer)
        again, passes = [], 0
        for leaf in _parameters(optimizer):
            held = self._held.get(id(leaf))
            if held is None or held.leaf() is not leaf or not held.passes:
                continue
            if held.stepped and held.passes > 1 and leaf.grad is not None and self._left_over(held, leaf):
                again.append(self.names.get(id(leaf), ""))
                passes = max(passes, held.passes)
            held.stepped = True
        if again:
            place = locate(sys._getframe(1))[0]
            data: dict[str, Any] = {"names": again[:_SAMPLE], "count": len(again), "passes": passes, "pass": self._last}
            self._note_reused(place, data)

    def _note_reused(self, place: Place | None, data: dict[str, Any]) -> None:
        """Note it once for each line that steps: the first time, with the number of times."""
        for _, _, known, found in self.reused:
            if known == place:
                found["times"] = int(found["times"]) + 1  # type: ignore[arg-type]
                return
        self.reused.append(("reused", (), place, {**data, "times": 1}))

    def of_run(self, cuts: dict[Any, tuple[Any, Cut]], used: dict[int, Any]) -> list[RunFact]:
        """Return which parameters no pass reached, those first whose way was cut at a known line."""
        missing = {id(p): (name, p) for name, p in self._expected() if not self._reached(p)} if self._held else {}
        found: list[RunFact] = [("optimizer", (), None, {})] if len(self._optimizers) else []
        for _, cut in cuts.values():
            hit = [key for key in missing if key in cut.params and cut.flows]
            if hit:
                names: list[Any] = [missing.pop(key)[0] for key in hit]
                found.append(("detached", (), cut.place, {"how": cut.how, "names": names, "pass": cut.flows[0]}))
        for was_used in (False, True):
            names = [name for key, (name, p) in missing.items() if _is_live(used.get(key), p) == was_used]
            if names:
                found.append(("unreached", (), None, {"names": names, "used": was_used}))
        return found

    def _reached(self, leaf: torch.Tensor) -> bool:
        held = self._held.get(id(leaf))
        return held is not None and held.leaf() is leaf

    def _expected(self) -> list[tuple[str, torch.Tensor]]:
        """Return the parameters that a script wants gradients for: its optimizers', else its modules'.

        Without an optimizer, a module of which nothing was reached is taken for a fixed one.
        """
        known = {id(p): name for module in list(self._roots) for name, p in module.named_parameters()}
        expected = [p for optimizer in list(self._optimizers) for p in _parameters(optimizer)]
        if not expected:
            for module in list(self._roots):
                parameters = list(module.parameters())
                if any(map(self._reached, parameters)):
                    expected += parameters
        unique = {id(p): p for p in expected if p.requires_grad}
        return [(self.names.get(key) or known.get(key, ""), p) for key, p in unique.items()]


def _is_live(reference: Any, parameter: torch.Tensor) -> bool:
    return reference is not None and reference() is parameter


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


class LeafHooks:
    """The global hooks that tell ``facts`` of optimizer steps, while they are put."""

    def __init__(self, facts: LeafFacts) -> None:
        self._facts = facts
        self._handles: list[Any] = []

    def put(self) -> None:
        """Install the hooks."""
        self._handles = [
            register_optimizer_step_pre_hook(self._facts.step),
        ]

    def take_away(self) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()
