"""Graph below the roots of a backward pass: each node once, each edge with both its indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from gradtrace.errors import TensorError
from gradtrace.recording.native.loader import NATIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


__all__ = ["GradFn", "Link", "Walk", "leaves_below", "require_graph", "root_edge", "walk"]

# An alias with a telling name: torch's type of a node is private and does not cover custom Functions.
GradFn = Any
# The positions of an edge's nodes, which grad_input it leaves by, which output it arrives at:
# source, source_index, target, target_index.
Link = tuple[int, int, int, int]


class Walk(NamedTuple):
    """Nodes reached, roots first; their ops and edges; the leaves; position and output of each root."""

    nodes: list[GradFn]
    ops: list[str]
    links: list[Link]
    leaves: list[int]
    roots: list[tuple[int, int]]


def root_edge(output: torch.Tensor | GradientEdge) -> tuple[GradFn, int]:
    """Return the node and the output number that backward starts from; raises RuntimeError if there is none."""
    if isinstance(output, GradientEdge):
        return output.node, output.output_nr
    node = output.grad_fn
    if node is not None:
        return node, output.output_nr
    edge = get_gradient_edge(output)
    return edge.node, edge.output_nr


def walk(outputs: list[tuple[GradFn, int]]) -> Walk:
    """Return the graph below these root edges."""
    positions = {node: position for position, node in enumerate(dict.fromkeys(node for node, _ in outputs))}
    found = Walk(list(positions), [], [], [], [(positions[node], output) for node, output in outputs])
    walk_on(positions, found.nodes, found.ops, found.links, found.leaves)
    return found


def walk_in_python(
    positions: dict[GradFn, int], nodes: list[GradFn], ops: list[str], links: list[Link], leaves: list[int]
) -> None:
    """Find the rest of the graph, in place: ``positions`` and ``nodes`` hold the roots at first."""
    names: dict[type, str] = {}  # a cache: each read of a name creates a new string
    source = 0
    for node in nodes:  # grows during the loop
        op = names.get(type(node))
        if op is None:
            op = names[type(node)] = type(node).__name__
        ops.append(op)
        if op == "AccumulateGrad":
            leaves.append(source)
        else:
            index = 0
            for target, output in node.next_functions:
                if target is not None:
                    position = positions.get(target)
                    if position is None:
                        position = positions[target] = len(nodes)
                        nodes.append(target)
                    links.append((source, index, position, output))
                index += 1  # noqa: SIM113 - enumerate costs a tenth of the walk
        source += 1  # noqa: SIM113


def leaves_below(nodes: list[GradFn]) -> list[torch.Tensor]:
    """Return the tensors of the leaves; ``nodes`` holds the roots, and grows to all nodes."""
    positions = {node: position for position, node in enumerate(nodes)}
    leaves: list[int] = []
    walk_in_python(positions, nodes, [], [], leaves)
    return [nodes[position].variable for position in leaves]


walk_on: Callable[[dict[GradFn, int], list[GradFn], list[str], list[Link], list[int]], None] = (
    walk_in_python if NATIVE is None else NATIVE.walk_on
)
if NATIVE is not None:
    NATIVE.setup(AccumulateGrad=torch._C._functions.AccumulateGrad)  # type: ignore[attr-defined]


def require_graph(outputs: Sequence[torch.Tensor]) -> None:
    """Raise TensorError for an output without a graph."""
    with torch._C.DisableTorchFunction():
        for output in outputs:
            if not output.requires_grad:
                raise TensorError(
                    f"a tensor of shape {list(output.shape)!r} has no graph to draw",
                    "it was computed without a tensor that requires grad, or under no_grad, or detached",
                )
