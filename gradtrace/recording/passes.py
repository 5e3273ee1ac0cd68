"""One backward pass, from the call of the engine to what is known of it when the engine returns."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.autograd.graph import GradientEdge

from gradtrace.recording.forward import Maker
from gradtrace.recording.names import Names, namespaces
from gradtrace.recording.saved import Kept, kept_by
from gradtrace.recording.sources import Place, call_place
from gradtrace.recording.statistics import Measured, measure
from gradtrace.recording.torchviz_bridge import torchviz_dot
from gradtrace.recording.walk import Link, Walk, root_edge, walk
from gradtrace.recording.watch import Event, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType

    from gradtrace.recording.logs import ThreadLog

Kind = Literal["backward", "grad", "seeded"]

__all__ = ["EngineCall", "Kind", "RawPass", "record_pass"]


class EngineCall:
    """The arguments of one call of autograd's engine, by name; calling it runs the engine with them."""

    def __init__(self, engine: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._engine = engine
        self._args = args
        self._kwargs = kwargs
        self.outputs: tuple[torch.Tensor | GradientEdge, ...] = tuple(args[0])
        self.seeds: Sequence[torch.Tensor | None] = args[1]
        self.create_graph: bool = bool(args[3])
        self.inputs: tuple[torch.Tensor | GradientEdge, ...] = tuple(args[4])
        self.accumulates: bool = bool(kwargs.get("accumulate_grad"))

    def __call__(self) -> Any:
        """Run the engine as the script asked for it."""
        return self._engine(*self._args, **self._kwargs)


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
        self.numbers: list[int] = []
        self.leaves: set[int] = set()
        self.names: dict[int, str] = {}
        self.leaf_values: dict[int, Measured] = {}
        self.kept: list[Kept | None] = []
        self.output_names: list[str] = []
        self.output_values: list[Measured | None] = []
        self.seeds: list[Measured | None] = []
        self.module_names: dict[int, str] = {}
        self.events: list[Event] = []
        self.hooked_leaves: set[int] = set()
        self.finished_leaves: set[int] = set()
        self.captured: dict[tuple[int, int], Measured | None] = {}
        self.made = False
        self.draws_torchviz = False
        self.torchviz: str | None = None
        self.error: BaseException | None = None

    def describe(self, call: EngineCall, names: Names) -> None:
        """Note the outputs: their names, values and seeds."""
        self.module_names = names.modules
        for output, seed in zip(call.outputs, call.seeds, strict=True):
            tensor = output if isinstance(output, torch.Tensor) else None
            self.output_names.append(names.tensors.get(id(tensor), ""))
            self.output_values.append(None if tensor is None else measure(tensor))
            self.seeds.append(None if seed is None else measure(seed))

    def describe_graph(self, graph: Walk, names: Names) -> None:
        """Note the graph: its ops, numbers, leaves, names, and what each node keeps."""
        self.roots, self.links, self.ops, self.leaves = graph.roots, graph.links, graph.ops, set(graph.leaves)
        self.numbers = [node._sequence_nr() for node in graph.nodes]
        for position in graph.leaves:
            tensor = graph.nodes[position].variable
            self.leaf_values[position] = measure(tensor)
            self.names[position] = names.tensors.get(id(tensor), "")
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
        self.log.calls.add_made(start, end, Maker(self.index, position, self.ops[position], self.numbers[position]))

    def own_events(self) -> list[Event]:
        """Return the runs that belong to this pass, in order; those of nested and parallel passes do not."""
        return [event for event in self.events if event[0] == self.task]

    def close(self, watch: Watch) -> None:
        """Take over what the hooks saw."""
        self.events = watch.events
        self.hooked_leaves, self.finished_leaves = watch.hooked_leaves, watch.finished_leaves
        roots = {position for position, _ in self.roots}
        self.task = next((event[0] for event in self.events if event[1] in roots), -1)


def record_pass(raw: RawPass, call: EngineCall, frame: FrameType, spaces: Iterable[dict[str, Any]]) -> Any:
    """Run the engine under watch; what it returns and raises is left as it is, ``raw`` tells the rest.

    Tensors are named by the variables in ``spaces``, then by those of the frames that lead to ``frame``.
    """
    with torch._C.DisableTorchFunction():
        raw.place = call_place(frame)
        names = Names(chain(spaces, namespaces(frame)))
        raw.describe(call, names)
        graph = _graph(call)
        if graph is not None:
            raw.describe_graph(graph, names)
            if raw.draws_torchviz:
                raw.torchviz = torchviz_dot(*_for_torchviz(raw, call, graph))
    del names
    if graph is None:
        return _run(raw, call)
    with Watch(graph) as watch:
        if call.create_graph:
            watch.on_made = raw.note_made
        try:
            result = _run(raw, call)
        finally:
            raw.close(watch)
    with torch._C.DisableTorchFunction():
        _note_captured(raw, call, graph, result)
    return result


def _graph(call: EngineCall) -> Walk | None:
    try:
        return walk([root_edge(output) for output in call.outputs])
    except RuntimeError:
        return None  # an output without a graph: the engine says so, in PyTorch's own words


def _for_torchviz(raw: RawPass, call: EngineCall, graph: Walk) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    outputs = [output for output in call.outputs if isinstance(output, torch.Tensor)]
    named = {raw.names[position]: graph.nodes[position].variable for position in sorted(raw.leaves)}
    return outputs, {name: tensor for name, tensor in named.items() if name}


def _run(raw: RawPass, call: EngineCall) -> Any:
    try:
        return call()
    except BaseException as error:
        raw.error = error
        raise


def _note_captured(raw: RawPass, call: EngineCall, graph: Walk, result: Any) -> None:
    """Note the gradients that the engine returned: the nodes they arrived at were not run."""
    if call.accumulates or not call.inputs:
        return
    positions = {node: position for position, node in enumerate(graph.nodes)}
    leaves = {id(graph.nodes[position].variable): (position, 0) for position in graph.leaves}
    for wanted, gradient in zip(call.inputs, result, strict=True):
        found: tuple[int | None, int]
        if isinstance(wanted, GradientEdge):
            found = positions.get(wanted.node), wanted.output_nr
        elif wanted.grad_fn is not None:
            found = positions.get(wanted.grad_fn), wanted.output_nr
        else:
            found = leaves.get(id(wanted), (None, 0))
        if found[0] is not None:
            raw.captured[found[0], found[1]] = None if gradient is None else measure(gradient)
