"""Pure questions about a backward pass: for now, how to keep a drawing of it small."""

from __future__ import annotations

from itertools import count

from msgspec.structs import replace

from gradtrace.model import BackwardPass, Edge, Node

__all__ = ["beside_each_use", "head"]


def head(graph: BackwardPass, limit: int) -> BackwardPass:
    """Return the first ``limit`` nodes of a pass in backward order, with the edges among them."""
    if len(graph.nodes) <= limit:
        return graph
    nodes = graph.nodes[:limit]
    kept = {node.id for node in nodes}
    return replace(graph, nodes=nodes, edges=tuple(e for e in graph.edges if e.source in kept and e.target in kept))


def beside_each_use(graph: BackwardPass) -> BackwardPass:
    """Return a pass in which each edge to a leaf has a copy of that leaf to itself.

    One leaf that many far nodes use costs the layout the sum of all their distances, squared: a weight of
    a 100-step RNN takes more than two minutes as one box, and no time as a hundred.
    """
    shared = {node.id for node in graph.nodes if node.kind == "leaf" and len(graph.edges_into[node.id]) > 1}
    copies, edges, numbers = dict[str, list[Node]](), list[Edge](), count(1)
    for edge in graph.edges:
        if edge.target in shared:
            copy = replace(graph.by_id[edge.target], id=f"{edge.target}_{next(numbers)}")
            copies.setdefault(edge.target, []).append(copy)
            edges.append(replace(edge, target=copy.id))
        else:
            edges.append(edge)
    nodes = tuple(copy for node in graph.nodes for copy in copies.get(node.id, [node]))
    return replace(graph, nodes=nodes, edges=tuple(edges))
