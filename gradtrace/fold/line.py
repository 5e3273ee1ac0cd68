"""A pass laid out on a line: its functions and outputs in a topological order, its leaves aside.

A contiguous stretch of a topological order is convex: no path leaves it and comes back. So whatever is
folded is a stretch of this line, and the folded graph has no cycle.
"""

from __future__ import annotations

from functools import cached_property
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Edge, Node

__all__ = ["Line", "line_of"]


class Line(Struct, frozen=True, dict=True):
    """The nodes on the line, and for each the edges that leave it, as places on the line or leaves."""

    graph: BackwardPass
    nodes: tuple[Node, ...]

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of each node on the line; a leaf has none."""
        return {node.id: at for at, node in enumerate(self.nodes)}

    @cached_property
    def onward(self) -> list[list[tuple[int, Edge]]]:
        """For each place the edges to others on the line, with the place of the target."""
        place, leaving = self.place, self.graph.edges_from
        return [[(place[e.target], e) for e in leaving[node.id] if e.target in place] for node in self.nodes]

    @cached_property
    def inward(self) -> list[list[tuple[int, Edge]]]:
        """For each place the edges that arrive, with the place of the source."""
        found: list[list[tuple[int, Edge]]] = [[] for _ in self.nodes]
        for at, edges in enumerate(self.onward):
            for target, edge in edges:
                found[target].append((at, edge))
        return found

    @cached_property
    def to_leaves(self) -> list[list[Edge]]:
        """For each place the edges to leaves."""
        place, leaving = self.place, self.graph.edges_from
        return [[e for e in leaving[node.id] if e.target not in place] for node in self.nodes]


def line_of(graph: BackwardPass) -> Line:
    """Return the pass on a line: the order of its nodes, which is that of execution, where it is topological."""
    nodes = graph.nodes
    if not _is_topological(graph):
        nodes = _sorted(graph)
    return Line(graph, tuple(node for node in nodes if node.kind != "leaf"))


def _is_topological(graph: BackwardPass) -> bool:
    position = {node.id: at for at, node in enumerate(graph.nodes)}
    return all(position[edge.source] < position[edge.target] for edge in graph.edges)


def _sorted(graph: BackwardPass) -> tuple[Node, ...]:
    """Return the nodes in the topological order nearest to theirs; what lies on a cycle comes last."""
    position = {node.id: at for at, node in enumerate(graph.nodes)}
    waits = [len(graph.edges_into[node.id]) for node in graph.nodes]
    ready = [at for at, count in enumerate(waits) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        at = heappop(ready)
        order.append(at)
        for edge in graph.edges_from[graph.nodes[at].id]:
            target = position[edge.target]
            waits[target] -= 1
            if not waits[target]:
                heappush(ready, target)
    done = set(order)
    order += [at for at in range(len(graph.nodes)) if at not in done]
    return tuple(graph.nodes[at] for at in order)
