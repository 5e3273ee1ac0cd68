"""A pass laid out on a line: its functions and outputs in a topological order, its leaves aside.

A contiguous stretch of a topological order is convex: no path leaves it and comes back. So whatever is
folded is a stretch of this line, and the folded graph has no cycle.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.graph import nearest_order

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
        inward: list[list[tuple[int, Edge]]] = [[] for _ in self.nodes]
        for at, edges in enumerate(self.onward):
            for target, edge in edges:
                inward[target].append((at, edge))
        return inward

    @cached_property
    def to_leaves(self) -> list[list[Edge]]:
        """For each place the edges to leaves."""
        place, leaving = self.place, self.graph.edges_from
        return [[e for e in leaving[node.id] if e.target not in place] for node in self.nodes]


def line_of(graph: BackwardPass) -> Line:
    """Return the pass on a line: the order of its nodes, which is that of execution, where it is topological."""
    return Line(graph, tuple(node for node in nearest_order(graph) if node.kind != "leaf"))
