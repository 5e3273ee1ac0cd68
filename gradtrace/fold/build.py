"""Boxes and links, from a pass and the places that each box holds."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from gradtrace.fold.boxes import Box, Folded, GradientSummary, Link
from gradtrace.fold.gradient_summary import summary_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradtrace.fold.boxes import Opening, Wire
    from gradtrace.fold.groups import Part
    from gradtrace.fold.line import Line
    from gradtrace.model import BackwardPass, Edge, Finding, Node

__all__ = ["as_recorded", "box_of", "built", "by_nodes", "id_of", "links_of"]


def as_recorded(graph: BackwardPass, findings: Sequence[Finding], openings: Sequence[Opening] = ()) -> Folded:
    """Return a pass with a box for each node, leaves too."""
    by_node = by_nodes(findings)
    boxes = [
        Box(node.id, "node", (node.id,), call=_call(node, graph), findings=tuple(by_node.get(node.id, ())))
        for node in graph.nodes
    ]
    links = links_of(graph.edges, {node.id: node.id for node in graph.nodes})
    return Folded(graph, tuple(boxes), links, openings=tuple(openings))


def _call(node: Node, graph: BackwardPass) -> int | None:
    """Return the call that a node was made in; a leaf that one node uses stands beside it."""
    users = graph.edges_into[node.id]
    return graph.by_id[users[0].source].call if node.kind == "leaf" and len(users) == 1 else node.call


def built(line: Line, parts: Sequence[Part], openings: Sequence[Opening], findings: Sequence[Finding]) -> Folded:
    """Return a pass in one box for each part, the leaves in the boxes of their users."""
    ids = [id_of(line, part) for part in parts]
    home = {line.nodes[at].id: i for i, part in enumerate(parts) for at in part.places}
    leaves = _leaves(line, home)
    by_node = by_nodes(findings)
    boxes = [box_of(line, part, ids[i], tuple(leaves.get(i, ())), by_node) for i, part in enumerate(parts)]
    between, inner = _sorted_out(line, parts, home)
    users: dict[str, int] = defaultdict(int)
    for mine in leaves.values():
        for leaf in mine:
            users[leaf] += 1
    links = links_of(between, {node_id: ids[i] for node_id, i in home.items()})
    shared = frozenset(leaf for leaf, count in users.items() if count > 1)
    return Folded(line.graph, tuple(boxes), links, tuple(inner), shared, tuple(openings))


def id_of(line: Line, part: Part) -> str:
    """Return the id of the box for a part."""
    first = line.nodes[part.places[0]].id
    return first if part.kind in {"node", "open", "op"} else f"{part.kind}_{first}"


def box_of(line: Line, part: Part, box_id: str, leaves: tuple[str, ...], by_node: Mapping[str, list[Finding]]) -> Box:
    """Return the box for a part, with what is true of the gradients in it."""
    nodes = tuple([line.nodes[at].id for at in part.places])
    kind = "node" if part.kind in {"node", "open"} else part.kind
    inside = {id(f): f for node_id in (*nodes, *leaves) for f in by_node.get(node_id, ())} if by_node else {}
    return Box(
        box_id,
        kind,  # type: ignore[arg-type]
        nodes,
        leaves,
        part.count,
        part.name,
        part.call,
        _wires(line, part) if kind == "run" else (),
        summary_of(line, part) if len(nodes) > 1 else GradientSummary(),
        tuple(inside.values()),
    )


def _wires(line: Line, part: Part) -> tuple[Wire, ...]:
    start, end = part.places[0], part.places[-1] + 1
    return tuple(
        (at - start, target - start, edge.source_index, edge.target_index)
        for at in part.places[: len(part.places) // part.count]
        for target, edge in line.onward[at]
        if start <= target < end
    )


def _sorted_out(line: Line, parts: Sequence[Part], home: Mapping[str, int]) -> tuple[list[Edge], list[Edge]]:
    """Return the edges between boxes, and those inside one that no run says for itself."""
    between, inner = [], []
    for edge in line.graph.edges:
        source, target = home.get(edge.source, -1), home.get(edge.target, -1)
        if target < 0:
            inner.append(edge)
        elif source != target:
            between.append(edge)
        elif parts[source].kind != "run":
            inner.append(edge)
    return between, inner


def _leaves(line: Line, home: Mapping[str, int]) -> dict[int, list[str]]:
    """Return for each box the leaves that its nodes use, in the order of use; one that nobody uses is in the first."""
    leaves: dict[int, dict[str, None]] = defaultdict(dict)
    for edge in line.graph.edges:
        if edge.target not in home and edge.source in home:
            leaves[home[edge.source]][edge.target] = None
    used = {leaf for mine in leaves.values() for leaf in mine}
    for node in line.graph.nodes:
        if node.kind == "leaf" and node.id not in used and node.id not in home:
            leaves[0][node.id] = None
    return {i: list(mine) for i, mine in leaves.items()}


def links_of(edges: Iterable[Edge], home: Mapping[str, str]) -> tuple[Link, ...]:
    """Return the edges between boxes, those between the same two together; ``home`` is each node's box."""
    bundles: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for edge in edges:
        bundles[home[edge.source], home[edge.target]].append(edge)
    return tuple(Link(source, target, tuple(bundle)) for (source, target), bundle in bundles.items())


def by_nodes(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return the findings by each node that they name."""
    by_node: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        for node_id in finding.nodes:
            by_node[node_id].append(finding)
    return by_node
