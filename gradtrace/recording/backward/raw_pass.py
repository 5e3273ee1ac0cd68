"""What is known of one backward pass when it has ended."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from gradtrace.recording.autograd.saved_tensors import Kept, kept_by
from gradtrace.recording.forward.call_log import Maker
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.measure import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.facts.collector import Facts
    from gradtrace.recording.forward.thread_logs import ThreadLog
    from gradtrace.recording.stats.kinds import Measured
    from gradtrace.recording.user_code.frames import Place
    from gradtrace.recording.user_code.variable_names import Names

    _AllMeasured = Sequence[Measured | None]
    from collections.abc import Callable, Sequence

    from torch.autograd.graph import GradientEdge

    from gradtrace.recording.autograd.graph import Link
    from gradtrace.recording.backward.node_hooks import Watch
    from gradtrace.recording.backward.post_hook import Event
    from gradtrace.recording.replay.calls import Scene
    from gradtrace.recording.replay.gradient_copies import Arrivals


__all__ = ["Kind", "RawFact", "RawPass", "Row"]

Kind = Literal["backward", "grad", "seeded"]
# A leaf's name and shape, and what arrived there.
Row = tuple[str, tuple[int, ...], Measured | None]


class RawPass:
    """What is known of a pass when it has ended, in plain data and measurements: no node, no tensor."""

    def __init__(self, index: int, kind: Kind, log: ThreadLog) -> None:
        self.index = index
        self.kind: Kind = kind
        self.log = log
        self.outer_task: int = torch._C._current_graph_task_id()
        self.task = -1
        self.place: Place | None = None
        self.roots: list[tuple[int, int]] = []
        self.links: list[Link] = []
        self.ops: list[str] = []
        self.numbers: array[int] = array("Q")
        self.leaves: set[int] = set()
        self.names: dict[int, str] = {}
        self.leaf_values: dict[int, Measured] = {}
        self.kept: list[Kept] = []
        self.output_names: list[str] = []
        self.output_values: list[Measured | None] = []
        self.seeds: list[Measured | None] = []
        self.module_names: dict[int, str] = {}
        self.events: list[Event] = []
        self.hooked_leaves: set[int] = set()
        self.finished_leaves: set[int] = set()
        self.captured: dict[tuple[int, int], Measured | None] = {}
        self.made = False
        self.made_by: set[int] = set()
        self.notes: Facts | None = None
        self.facts: list[RawFact] = []
        self.torchviz: str | None = None
        # Only where the calls of the forward are recorded, and finite differences of them.
        self.scene: Scene | None = None
        self.arrivals: Arrivals | None = None
        # Type and message alone: the exception's traceback would keep the script's tensors alive.
        self.error: tuple[str, str] | None = None

    def describe(
        self, outputs: Sequence[torch.Tensor | GradientEdge], seeds: Sequence[torch.Tensor | None], names: Names
    ) -> None:
        """Note the outputs: their names, values and seeds."""
        self.module_names = names.modules
        for output, seed in zip(outputs, seeds, strict=True):
            tensor = output if isinstance(output, torch.Tensor) else None
            self.output_names.append(names.tensors.get(id(tensor), ""))
            self.output_values.append(None if tensor is None else measure(tensor))
            self.seeds.append(None if seed is None else measure(seed))

    def describe_leaves(
        self,
        graph: Walk,
        name: Callable[[torch.Tensor], str | None],
        look: Callable[[torch.Tensor], Measured] = measure,
    ) -> None:
        """Note the roots and the leaves: their names, and what ``look`` finds of their values."""
        self.roots, self.leaves = graph.roots, set(graph.leaves)
        for position in graph.leaves:
            tensor = graph.nodes[position].variable
            self.names[position] = name(tensor) or ""
            self.leaf_values[position] = look(tensor)

    def describe_graph(self, graph: Walk, names: Names) -> None:
        """Note the rest of the graph: its ops, numbers, names, and what each node keeps."""
        self.links, self.ops = graph.links, graph.ops
        self.numbers = array("Q", [node._sequence_nr() for node in graph.nodes])
        self.kept = [kept_by(node) for node in graph.nodes]
        self._name_intermediates(graph, names)

    def _name_intermediates(self, graph: Walk, names: Names) -> None:
        positions = {node: position for position, node in enumerate(graph.nodes)}
        for tensor, name in names.with_graph:
            position = positions.get(tensor.grad_fn)
            if position is not None and position not in self.names:
                self.names[position] = name

    def note_made(self, position: int, start: int, end: int) -> None:
        """Note that the run of a node made the nodes with these sequence numbers."""
        self.made = True
        self.made_by.add(position)
        self.log.calls.add_made(start, end, Maker(self.index, position, self.ops[position], self.numbers[position]))

    def own_events(self) -> list[Event]:
        """Return the runs that belong to this pass, in order; those of nested and parallel passes do not."""
        return [event for event in self.events if event[0] == self.task]

    def leaf_gradients(self) -> dict[int, Measured]:
        """Return the gradient that arrived at each leaf that was reached, by position."""
        arrived = {event[1]: event[2][0] for event in self.own_events() if event[1] in self.leaves}
        captured = {position: found for (position, _), found in self.captured.items() if position in self.leaves}
        return {position: found for position, found in (captured | arrived).items() if found is not None}

    def series(self) -> list[Row]:
        """Return a row for each leaf."""
        gradients = self.leaf_gradients()
        named = [(position, self.names[position], measured) for position, measured in self.leaf_values.items()]
        return [(name, measured[0].shape, gradients.get(position)) for position, name, measured in named]

    def failed(self) -> int | None:
        """Return the node that was running when the engine gave up: the one it picks next of those ready.

        It takes leaves first, then the node that was made last. A leaf that ran but whose own hooks did
        not finish failed in one of those hooks.
        """
        ran: dict[int, None] = dict.fromkeys(event[1] for event in self.own_events())
        last: int | None = next(reversed(ran), None)
        if last in self.hooked_leaves and last not in self.finished_leaves:
            return last
        blocked = {target for source, _, target, _ in self.links if source not in ran}
        ready = [p for p in range(len(self.ops)) if p not in ran and p not in blocked]
        numbers = self.numbers
        return max(ready, key=lambda position: numbers[position], default=None)

    def close(self, watch: Watch) -> None:
        """Take over what the hooks saw."""
        self.events = watch.events
        self.hooked_leaves, self.finished_leaves = watch.hooked_leaves, watch.finished_leaves
        self.task = watch.task


class RawFact(NamedTuple):
    """A Fact whose nodes are positions in the walk and whose source is a place."""

    kind: str
    positions: tuple[int, ...] = ()
    place: Place | None = None
    data: dict[str, Attribute] = {}  # noqa: RUF012 - nobody writes to it
