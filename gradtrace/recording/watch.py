"""Hooks on the nodes of one backward pass: what arrived, what was sent on, in which order, how long it took."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch

from gradtrace.recording.forward import sequence_number
from gradtrace.recording.statistics import MAX_VALUES, Measured, measure
from gradtrace.recording.walk import Walk, is_leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Event", "Watch"]

Gradients = tuple[torch.Tensor | None, ...]

_task: Callable[[], int] = torch._C._current_graph_task_id


class Event(NamedTuple):
    """One node's run: the engine's task, the node, what arrived, what it sent on, and its seconds."""

    task: int
    node: int
    arrived: list[Measured | None]
    sent: list[Measured | None]
    seconds: float | None


class _Sent(NamedTuple):
    """A gradient on its way: itself, weakly, its version, and what was measured of it."""

    tensor: weakref.ref[torch.Tensor]
    version: int
    measured: Measured


class Watch:
    """Records the runs of the nodes of ``walk`` while it is entered as a context.

    A hook sees every run of its node, those in nested passes and other threads included; ``events`` tells
    them apart by the engine's task.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.events: list[Event] = []
        self.hooked_leaves: set[int] = set()
        self.finished_leaves: set[int] = set()
        self._links = self._outgoing()
        self._on_way: dict[tuple[int, int], _Sent] = {}
        self._hooks = ExitStack()
        self._last = 0.0
        self._number = 0
        # Told of the position of a node and the sequence numbers of the nodes that its run made.
        self.on_made: Callable[[int, int, int], None] | None = None

    def __enter__(self) -> Self:
        """Install the hooks."""
        for position, node in enumerate(self.walk.nodes):
            if is_leaf(node):
                self._watch_leaf(position, node)
            else:
                self._hooks.callback(node.register_hook(self._function_hook(position)).remove)
        self._number = sequence_number()
        self._last = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the hooks."""
        self._hooks.close()
        self._on_way.clear()

    def _outgoing(self) -> list[dict[int, tuple[int, int]]]:
        """Return for each node which grad_inputs are the only gradient for a target's output."""
        counts: dict[tuple[int, int], int] = {}
        for link in self.walk.links:
            slot = (link.target, link.target_index)
            counts[slot] = counts.get(slot, 0) + 1
        for root in self.walk.roots:
            counts[root] = counts.get(root, 0) + 1
        found: list[dict[int, tuple[int, int]]] = [{} for _ in self.walk.nodes]
        for source, index, target, output in self.walk.links:
            if counts[target, output] == 1:
                found[source][index] = (target, output)
        return found

    def _watch_leaf(self, position: int, node: Any) -> None:
        """Measure before the leaf accumulates: afterwards its optimizer may have zeroed the same memory."""

        def before(arriving: Gradients) -> None:
            arrived = self._receive(position, arriving)
            self.events.append(Event(_task(), position, arrived, [], None))
            self._last = perf_counter()

        self._hooks.callback(node.register_prehook(before).remove)
        if node.variable._post_accumulate_grad_hooks:
            # These hooks are the user's and may raise: then this leaf is the node that failed.
            self.hooked_leaves.add(position)
            self._hooks.callback(node.register_hook(lambda *_: self.finished_leaves.add(position)).remove)

    def _function_hook(self, position: int) -> Callable[[Gradients, Gradients], None]:
        only = self._links[position]
        events = self.events

        def after(sending: Gradients, arriving: Gradients) -> None:
            seconds = perf_counter() - self._last
            arrived = self._receive(position, arriving)
            sent = [None if grad is None else self._send(grad, only.get(index)) for index, grad in enumerate(sending)]
            events.append(Event(_task(), position, arrived, sent, seconds))
            if self.on_made is not None:
                self._tell_made(position)
            self._last = perf_counter()

        return after

    def _tell_made(self, position: int) -> None:
        number = sequence_number()
        if self.on_made is not None and number > self._number:
            self.on_made(position, self._number, number)
        self._number = number

    def _receive(self, position: int, arriving: Sequence[torch.Tensor | None]) -> list[Measured | None]:
        on_way = self._on_way
        if not on_way:
            return [None if grad is None else measure(grad) for grad in arriving]
        arrived: list[Measured | None] = []
        for output, grad in enumerate(arriving):
            sent = on_way.pop((position, output), None)
            if grad is None:
                arrived.append(None)
            elif sent is not None and sent.tensor() is grad and sent.version == grad._version:
                arrived.append(sent.measured)
            else:
                arrived.append(measure(grad))
        return arrived

    def _send(self, grad: torch.Tensor, slot: tuple[int, int] | None) -> Measured:
        """Measure a gradient; keep what was measured for the target if no other gradient joins it there."""
        measured = measure(grad)
        if slot is not None and type(measured.found) is not float and grad.numel() > MAX_VALUES:
            self._on_way[slot] = _Sent(weakref.ref(grad), grad._version, measured)
        return measured
