"""Copies of all gradients of one pass: those arrived at each node, and those sent along each edge."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.autograd.engine_call import graph_of
from gradtrace.recording.replay.calls import Key, copied, on_host
from gradtrace.recording.stats.device import is_here

if TYPE_CHECKING:
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk

__all__ = ["GradientCopies"]


class GradientCopies:
    """Keeps the gradients of one call of the engine, and the outputs that it was called for.

    Gradients are copied at once, so no tensor of the script is held. ``numeric`` tells whether they are
    to be compared with finite differences, ``brief`` that the user waits for the result.
    """

    def __init__(self, call: EngineCall, *, numeric: bool, brief: bool) -> None:
        self.numeric = numeric
        self.brief = brief
        self.numbers: list[int] = []
        self.links: list[tuple[int, int, int, int]] = []
        self.roots: list[tuple[int, int]] = []
        self.leaves: set[int] = set()
        self.seeds: list[torch.Tensor] = []
        self.arrived: dict[int, list[torch.Tensor | None]] = {}
        self.sent: dict[int, list[torch.Tensor | None]] = {}
        self.hooked: set[int] = set()
        call.wrap(lambda engine: lambda *args, **kwargs: self._run(call, lambda: engine(*args, **kwargs)))

    def _run(self, call: EngineCall, run: Any) -> Any:
        with torch._C.DisableTorchFunction():
            graph = graph_of(call)
            if graph is not None:
                self._note(graph, call)
        with ExitStack() as hooks:
            for position, node in enumerate(graph.nodes if graph else ()):
                handles = self._watch(position, node)
                for handle in handles:
                    hooks.callback(handle.remove)
            return run()

    def _note(self, graph: Walk, call: EngineCall) -> None:
        self.numbers = [node._sequence_nr() for node in graph.nodes]
        self.links, self.roots, self.leaves = graph.links, graph.roots, set(graph.leaves)
        for output, seed in zip(call.outputs, call.seeds, strict=True):
            given = seed if seed is not None else torch.ones_like(output) if isinstance(output, torch.Tensor) else None
            copy = None if given is None else copied(given)
            if copy is not None:
                self.seeds.append(copy)
        for position in graph.leaves:
            if graph.nodes[position].variable._backward_hooks:
                self.hooked.add(position)

    def _watch(self, position: int, node: Any) -> list[Any]:
        if position in self.leaves:
            return []

        def after(sending: Any, arriving: Any) -> None:
            self.arrived[position] = [_copy(gradient) for gradient in arriving]
            self.sent[position] = [_copy(gradient) for gradient in sending]

        return [node.register_hook(after)]

    def on_host(self) -> GradientCopies:
        """Bring the copies on a device to CPU memory, and return them."""
        for group in (self.arrived, self.sent):
            for position, copies in group.items():
                found = [on_host(copy) for copy in copies]
                group[position] = [None if copy is None else _wide(copy) for copy in found]
        self.seeds = [seed for seed in map(on_host, self.seeds) if seed is not None]
        return self

    def into(self, position: int) -> torch.Tensor | None:
        """Return the sum of the gradients sent to a leaf, None if none was."""
        parts = [self._along(link) for link in self.links if link[2] == position]
        found = [part for part in parts if part is not None]
        for (root, _), seed in zip(self.roots, self.seeds, strict=False):
            found += [seed] if root == position else []
        return sum(found[1:], found[0]) if found else None

    def sent_by(self, inside: set[int], leaves: dict[int, int]) -> dict[Key, torch.Tensor]:
        """Return the gradients that the nodes at these positions sent to tensors outside of them, summed by tensor."""
        found: dict[Key, torch.Tensor] = {}
        for link in self.links:
            part = self._along(link) if link[0] in inside and link[2] not in inside else None
            if part is not None:
                position, output = link[2], link[3]
                key = Key(leaves[position], -1) if position in leaves else Key(self.numbers[position], output)
                found[key] = found[key] + part if key in found else part
        return found

    def at(self, position: int, output: int) -> torch.Tensor | None:
        """Return the gradient that arrived for one output of a node."""
        found = self.arrived.get(position, [])
        return found[output] if output < len(found) else None

    def from_outside(self, position: int, output: int, inside: set[int]) -> torch.Tensor | None:
        """Return the gradient that arrived for one output of a node, less the share sent by the nodes ``inside``.

        An LSTM's cell state is a result of its call, and what its hidden state is computed from as well.
        """
        links = [link for link in self.links if link[2:] == (position, output)]
        if inside.isdisjoint(link[0] for link in links):
            return self.at(position, output)
        parts = [self._along(link) for link in links if link[0] not in inside]
        found = [part for part in parts if part is not None]
        seeds = zip(self.roots, self.seeds, strict=False)
        found += [seed.double() for root, seed in seeds if root == (position, output)]
        return sum(found[1:], found[0]) if found else None

    def _along(self, link: tuple[int, int, int, int]) -> torch.Tensor | None:
        sent = self.sent.get(link[0], [])
        return sent[link[1]] if link[1] < len(sent) else None


def _copy(gradient: torch.Tensor | None) -> torch.Tensor | None:
    with torch._C.DisableTorchFunction():
        if gradient is None:
            return None
        copy = copied(gradient)
        return _wide(copy) if copy is not None and is_here(copy) else copy


def _wide(copy: torch.Tensor) -> torch.Tensor:
    return copy.double() if copy.is_floating_point() else copy
