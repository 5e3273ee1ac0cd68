"""Ways through a backward pass: the longest one, and an order in which causes come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Edge, Node

__all__ = ["longest_path", "topological"]


def longest_path(graph: BackwardPass) -> list[Node]:
    """Return the nodes of the longest way from an output to a leaf, in backward order; the spine of a deep net.

    Of ways of the same length it is the one that the larger gradients take.
    """
    best: dict[str, tuple[int, float, str | None]] = {}
    for node in reversed(topological(graph)):
        ways = [(best[edge.target][0] + 1, _weight(edge), edge.target) for edge in graph.edges_from[node.id]]
        best[node.id] = max(ways, key=lambda way: way[:2]) if ways else (0, 0.0, None)
    starts = [node.id for node in graph.nodes if node.kind == "output"]
    at: str | None = max(starts, key=lambda start: best[start][0], default=None)
    path = []
    while at is not None:
        path.append(graph.by_id[at])
        at = best[at][2]
    return path


def topological(graph: BackwardPass) -> list[Node]:
    """Return the nodes so that each comes after all those that lead to it."""
    missing = {node.id: len(graph.edges_into[node.id]) for node in graph.nodes}
    order = [node.id for node in graph.nodes if not missing[node.id]]
    for found in order:
        for edge in graph.edges_from[found]:
            missing[edge.target] -= 1
            if not missing[edge.target]:
                order.append(edge.target)
    return [graph.by_id[found] for found in order]


def _weight(edge: Edge) -> float:
    return (edge.grad.norm or 0.0) if edge.grad else -1.0
