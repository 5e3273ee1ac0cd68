"""Order and paths of a backward pass: topological orders, longest ways, and a copy of a shared leaf at each use."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.model import BackwardPass, Edge, Node

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

__all__ = [
    "beside_each_use",
    "in_order",
    "longest_path",
    "longest_ways",
    "nearest_order",
    "origin",
    "span",
    "topological",
]


def span(graph: BackwardPass) -> int:
    """Return the sum of all edges' lengths in ranks: what a layered layout's time grows with, squared."""
    ranks = longest_ways(_onward(graph))
    return sum(abs(ranks[edge.target] - ranks[edge.source]) for edge in graph.edges)


def beside_each_use(graph: BackwardPass) -> BackwardPass:
    """Return a pass in which each edge to a shared leaf has a copy of that leaf to itself, listed after its user.

    One leaf that many far nodes use makes long edges: a weight of a 60-step RNN takes dot a minute as one
    box, and a tenth of a second as sixty.
    """
    shared = {node.id for node in graph.nodes if node.kind == "leaf" and len(graph.edges_into[node.id]) > 1}
    nodes, edges, numbers = list[Node](), list[Edge](), count(1)
    for node in graph.nodes:
        if node.id not in shared:
            nodes.append(node)
        for edge in graph.edges_from[node.id]:
            if edge.target in shared:
                nodes.append(replace(graph.by_id[edge.target], id=f"{edge.target}_{next(numbers)}"))
            edges.append(replace(edge, target=nodes[-1].id) if edge.target in shared else edge)
    return replace(graph, nodes=tuple(nodes), edges=tuple(edges))


def origin(node_id: str) -> str:
    """Return the id of the node that this one is, or is a copy of.

    >>> origin("n7_2"), origin("n7")
    ('n7', 'n7')
    """
    return node_id.partition("_")[0]


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


def _weight(edge: Edge) -> float:
    return (edge.grad.norm or 0.0) if edge.grad else -1.0


def topological(graph: BackwardPass) -> list[Node]:
    """Return the nodes so that each comes after all those that lead to it."""
    return [graph.by_id[node_id] for node_id in in_order(_onward(graph))]


def nearest_order(graph: BackwardPass) -> tuple[Node, ...]:
    """Return the nodes in the topological order nearest to theirs; what lies on a cycle comes last."""
    position = {node.id: at for at, node in enumerate(graph.nodes)}
    if all(position[edge.source] < position[edge.target] for edge in graph.edges):
        return graph.nodes
    waits = [len(graph.edges_into[node.id]) for node in graph.nodes]
    ready = [at for at, count in enumerate(waits) if not count]
    heapify(ready)
    order: dict[int, None] = {}
    while ready:
        at = heappop(ready)
        order[at] = None
        for edge in graph.edges_from[graph.nodes[at].id]:
            target = position[edge.target]
            waits[target] -= 1
            if not waits[target]:
                heappush(ready, target)
    return tuple(graph.nodes[at] for at in order | dict.fromkeys(range(len(graph.nodes))))


def longest_ways(onward: Mapping[str, Sequence[str]], counted: Container[str] | None = None) -> dict[str, int]:
    """Return the length of the longest way to each key; only those ``counted`` make a way longer.

    What lies on a cycle stays at the length that it was reached with.

    >>> longest_ways({"a": ["b", "c"], "b": ["c"], "c": []})
    {'a': 0, 'b': 1, 'c': 2}
    """
    lengths = dict.fromkeys(onward, 0)
    for key in in_order(onward):
        length = lengths[key] + (counted is None or key in counted)
        for target in onward[key]:
            lengths[target] = max(lengths[target], length)
    return lengths


def in_order(onward: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the keys so that each comes after all those that lead to it; what lies on a cycle is left out.

    >>> list(in_order({"c": [], "a": ["b"], "b": ["c"]}))
    ['a', 'b', 'c']
    """
    waits = dict.fromkeys(onward, 0)
    for targets in onward.values():
        for target in targets:
            waits[target] += 1
    ready = deque(key for key, count in waits.items() if not count)
    while ready:
        key = ready.popleft()
        yield key
        for target in onward[key]:
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)


def _onward(graph: BackwardPass) -> dict[str, list[str]]:
    return {node_id: [edge.target for edge in edges] for node_id, edges in graph.edges_from.items()}
