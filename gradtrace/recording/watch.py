"""Hooks on the nodes of one backward pass: what arrived, what was sent on, in which order, how long it took."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

import torch

from gradtrace.recording.forward import sequence_number
from gradtrace.recording.statistics import Measured, measure, same_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.walk import Walk

__all__ = ["Event", "Watch"]

Gradients = tuple[torch.Tensor | None, ...]

task: Callable[[], int] = torch._C._current_graph_task_id

# One node's run: the engine's task, the node's position, what arrived, what it sent on, and its seconds.
Event = tuple[int, int, list[Measured | None], list[Measured | None], float | None]


class Watch:
    """Records the runs of the nodes of ``walk``, or of those ``watched``, while it is entered as a context.

    A hook sees every run of its node, those in nested passes and other threads included; ``events`` tells
    them apart by the engine's task.
    """

    def __init__(self, walk: Walk, watched: set[int] | None = None) -> None:
        self.walk = walk
        self._watched = watched
        self.events: list[Event] = []
        self.hooked_leaves: set[int] = set()
        self.finished_leaves: set[int] = set()
        # Told of the position of a node and the sequence numbers of the nodes that its run made.
        self.on_made: Callable[[int, int, int], None] | None = None
        # A gradient on its way to a node that no other gradient joins: itself, weakly, so that the engine
        # can still take its memory; its version; what was measured of it, as it will be noted on arrival.
        self._on_way: dict[int, tuple[ref[torch.Tensor], int, list[Measured | None]]] = {}
        self._handles: list[Any] = []
        self._last = 0.0
        self._number = 0

    def __enter__(self) -> Self:
        """Install the hooks."""
        targets = self._only_targets()
        leaves = set(self.walk.leaves)
        for position, node in enumerate(self.walk.nodes):
            if self._watched is not None and position not in self._watched:
                continue
            if position in leaves:
                self._watch_leaf(position, node)
            else:
                self._handles.append(node.register_hook(self._function_hook(position, targets[position])))
        self._number = sequence_number()
        self._last = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._on_way.clear()

    def _only_targets(self) -> list[dict[int, int]]:
        """Return for each node the targets that only one edge leads to, by the grad_input that leads there."""
        uses = [0] * len(self.walk.nodes)
        for link in self.walk.links:
            if link[3]:  # a node of several outputs, of which none stands for all
                uses[link[2]] += 1
        for position, _ in self.walk.roots:
            uses[position] += 1
        for link in self.walk.links:
            uses[link[2]] += 1
        found: list[dict[int, int]] = [{} for _ in uses]
        for source, index, target, _ in self.walk.links:
            if uses[target] == 1:
                found[source][index] = target
        return found

    def _watch_leaf(self, position: int, node: Any) -> None:
        """Measure before the leaf accumulates: afterwards its optimizer may have zeroed the same memory."""

        def before(arriving: Gradients) -> None:
            grad, way = arriving[0], self._on_way.pop(position, None)
            if way is not None and way[0]() is grad and grad is not None and way[1] == grad._version:
                arrived = way[2]
            else:
                arrived = [None if grad is None else measure(grad)]
            self.events.append((task(), position, arrived, [], None))
            self._last = perf_counter()

        self._handles.append(node.register_prehook(before))
        if node.variable._post_accumulate_grad_hooks:
            # These hooks are the user's and may raise: then this leaf is the node that failed.
            self.hooked_leaves.add(position)
            self._handles.append(node.register_hook(lambda *_: self.finished_leaves.add(position)))

    def _function_hook(self, position: int, targets: dict[int, int]) -> Callable[[Gradients, Gradients], None]:
        events, on_way = self.events, self._on_way

        def after(sending: Gradients, arriving: Gradients) -> None:
            seconds = perf_counter() - self._last
            way = on_way.pop(position, None)
            first = arriving[0] if arriving else None
            if way is not None and way[0]() is first and first is not None and way[1] == first._version:
                # Nothing arrived for its other outputs, if it has some: no edge leads there.
                arrived = way[2] if len(arriving) == 1 else [*way[2], *[None] * (len(arriving) - 1)]
            else:
                arrived = [None if grad is None else measure(grad) for grad in arriving]
            known = arrived[0] if first is not None else None
            sent: list[Measured | None] = []
            for grad in sending:
                if grad is None:
                    sent.append(None)
                    continue
                measured = None if known is None or first is None else same_memory(grad, first, known)
                if measured is None:
                    measured = measure(grad)
                target = targets.get(len(sent))
                if target is not None:
                    on_way[target] = (ref(grad), grad._version, [measured])
                sent.append(measured)
            events.append((task(), position, arrived, sent, seconds))
            if self.on_made is not None:
                self._tell_made(position)
            self._last = perf_counter()

        return after

    def _tell_made(self, position: int) -> None:
        number = sequence_number()
        if self.on_made is not None and number > self._number:
            self.on_made(position, self._number, number)
        self._number = number
