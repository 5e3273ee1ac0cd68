"""The graph below the roots of a backward pass: each node once, each edge with both its indices."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

__all__ = ["GradFn", "Link", "Walk", "root_edge", "walk"]

# torch's own type of a node is private and covers no custom Function; this names what is meant.
GradFn = Any
# The positions of an edge's nodes, which grad_input it leaves by, which output it arrives at:
# source, source_index, target, target_index.
Link = tuple[int, int, int, int]


class Walk(NamedTuple):
    """The nodes reached, roots first; their ops and edges; the leaves; position and output of each root."""

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
    nodes = list(positions)
    ops: list[str] = []
    links: list[Link] = []
    leaves: list[int] = []
    names: dict[type, str] = {}  # each read of a name makes a new string
    source = 0
    for node in nodes:  # which grows as it is walked
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
    return Walk(nodes, ops, links, leaves, [(positions[node], output) for node, output in outputs])
