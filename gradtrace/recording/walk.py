"""The graph below the roots of a backward pass: each node once, each edge with both its indices."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

__all__ = ["Link", "Walk", "is_leaf", "root_edge", "walk"]

# torch's own type of a node is private and covers no custom Function; this names what is meant.
GradFn = Any


class Link(NamedTuple):
    """An edge: the positions of its nodes, which grad_input it leaves by, which output it arrives at."""

    source: int
    source_index: int
    target: int
    target_index: int


class Walk(NamedTuple):
    """The nodes reached, roots first, their edges, and the position and output of each root."""

    nodes: list[GradFn]
    links: list[Link]
    roots: list[tuple[int, int]]


def is_leaf(node: GradFn) -> bool:
    """Tell whether the node accumulates the gradient of a leaf."""
    return type(node).__name__ == "AccumulateGrad"


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
    nodes: list[GradFn] = []
    positions: dict[GradFn, int] = {}
    links: list[Link] = []

    def position(node: GradFn) -> int:
        found = positions.get(node)
        if found is None:
            found = positions[node] = len(nodes)
            nodes.append(node)
        return found

    roots = [(position(node), output) for node, output in outputs]
    source = 0
    while source < len(nodes):
        for index, (target, output) in enumerate(nodes[source].next_functions):
            if target is not None:
                links.append(Link(source, index, position(target), output))
        source += 1
    return Walk(nodes, links, roots)
