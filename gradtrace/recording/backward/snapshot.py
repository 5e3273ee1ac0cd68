"""Snapshot of a graph just before the engine runs it: names, values, ops, edges, saved tensors."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import torch

from gradtrace.recording.autograd.saved_tensors import saved_by
from gradtrace.recording.backward.raw_pass import GraphSnapshot, RootOutput
from gradtrace.recording.backward.torchviz_dot import torchviz_dot
from gradtrace.recording.stats.measure import kind_of, measure
from gradtrace.recording.user_code.frames import call_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.user_code.frames import Place
    from gradtrace.recording.user_code.variable_names import Names

__all__ = ["graph_snapshot", "leaf_snapshot", "place_of", "with_torchviz"]


def place_of(call: EngineCall, *, seeded: bool) -> Place | None:
    """Return the place of the call of the engine; none for a seeded pass, except by ``draw()``."""
    return call_place(call.frame, only_user=seeded)


def graph_snapshot(call: EngineCall, graph: Walk | None, names: Names, place: Place | None) -> GraphSnapshot:
    """Return the graph that the engine is called for; outputs without a graph are returned alone.

    A leaf that stands for a sharded parameter has the value of its shard.
    """
    outputs = tuple(_outputs(call, names))
    if graph is None:
        return GraphSnapshot(place, outputs, module_names=names.modules)
    leaves = {position: graph.nodes[position].variable for position in graph.leaves}
    names.look_again(leaves.values())
    leaf_names = {position: names.name(leaf) for position, leaf in leaves.items()}
    return GraphSnapshot(
        place,
        outputs,
        tuple(graph.roots),
        frozenset(leaves),
        _intermediate_names(graph, names) | leaf_names,
        {position: measure(names.parameter(leaf)) for position, leaf in leaves.items()},
        graph.ops,
        graph.links,
        array("Q", [node._sequence_nr() for node in graph.nodes]),
        [saved_by(node) for node in graph.nodes],
        names.modules,
    )


def leaf_snapshot(graph: Walk, name: Callable[[torch.Tensor], str | None]) -> GraphSnapshot:
    """Return only the roots and leaves of a graph, named by ``name``: enough for a row of each leaf."""
    leaves = {position: graph.nodes[position].variable for position in graph.leaves}
    return GraphSnapshot(
        roots=tuple(graph.roots),
        leaves=frozenset(leaves),
        names={position: name(leaf) or "" for position, leaf in leaves.items()},
        leaf_values={position: kind_of(leaf) for position, leaf in leaves.items()},
    )


def with_torchviz(snapshot: GraphSnapshot, call: EngineCall, graph: Walk) -> GraphSnapshot:
    """Return the snapshot with the graph as drawn by torchviz."""
    outputs = [output for output in call.outputs if isinstance(output, torch.Tensor)]
    named = {snapshot.names[position]: graph.nodes[position].variable for position in sorted(snapshot.leaves)}
    text = torchviz_dot(outputs, {name: tensor for name, tensor in named.items() if name})
    return snapshot._replace(torchviz=text)


def _outputs(call: EngineCall, names: Names) -> Iterator[RootOutput]:
    for output, seed in zip(call.outputs, call.seeds, strict=True):
        tensor = output if isinstance(output, torch.Tensor) else None
        value = None if tensor is None else measure(tensor)
        yield RootOutput("" if tensor is None else names.name(tensor), value, None if seed is None else measure(seed))


def _intermediate_names(graph: Walk, names: Names) -> dict[int, str]:
    positions = {node: position for position, node in enumerate(graph.nodes)}
    found: dict[int, str] = {}
    for tensor, name in names.with_graph:
        position = positions.get(tensor.grad_fn)
        if position is not None:
            found.setdefault(position, name)
    return found
