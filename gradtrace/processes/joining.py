"""One graph from those of several ranks, where a pipeline's stages sent each other what they computed.

A stage's output and the leaf that it became on the next rank have the same name, but for who sent and who received it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from gradtrace.model import BackwardPass, Edge, Fact, ModuleCall, Node
from gradtrace.processes.merging import of_rank, ranks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Trace

__all__ = ["joined"]

SENT, RECEIVED = "sent: ", "received: "
Key = tuple[int, int]  # a pass: rank and index


class _Joint(NamedTuple):
    """What one pass received from another: the passes, and the ids of the leaf and of the output."""

    receiver: Key
    leaf: str
    sender: Key
    output: str


def joined(trace: Trace) -> Trace:
    """Return the trace of the first rank, each pass with those of other ranks that its graph goes on in."""
    first = of_rank(trace, ranks_of(trace)[0])
    joints = list(_joints(trace))
    passes = {(graph.rank, graph.index): graph for graph in trace.passes}
    whole = tuple(_with_others(graph, passes, joints) for graph in first.passes)
    return replace(first, passes=whole, world=None, facts=())


def _joints(trace: Trace) -> Iterator[_Joint]:
    """Yield what was sent and received, the same time by its name."""
    ends: dict[tuple[str, int], list[tuple[Key, str]]] = {}
    times: Counter[tuple[int, str]] = Counter()
    for graph in trace.passes:
        for node in graph.nodes:
            prefix = RECEIVED if node.kind == "leaf" else SENT
            if node.kind != "function" and node.name.startswith(prefix):
                times[graph.rank, node.name] += 1
                way = node.name.removeprefix(prefix), times[graph.rank, node.name]
                ends.setdefault(way, []).append(((graph.rank, graph.index), f"{prefix}{node.id}"))
    for both in ends.values():
        sent = [(key, name.removeprefix(SENT)) for key, name in both if name.startswith(SENT)]
        received = [(key, name.removeprefix(RECEIVED)) for key, name in both if name.startswith(RECEIVED)]
        if len(sent) == len(received) == 1:
            yield _Joint(*received[0], *sent[0])


def _with_others(graph: BackwardPass, passes: dict[Key, BackwardPass], joints: list[_Joint]) -> BackwardPass:
    keys = [(graph.rank, graph.index)]
    for key in keys:  # which grows
        ends = [{joint.receiver, joint.sender} for joint in joints if key in {joint.receiver, joint.sender}]
        keys += sorted({other for end in ends for other in end} - {*keys})
    if len(keys) == 1:
        return graph
    own = [joint for joint in joints if joint.receiver in keys]
    return _assembled([passes[key] for key in _in_order(keys, own)], own)


def _in_order(keys: list[Key], joints: list[_Joint]) -> list[Key]:
    """Return the passes in the order in which backward ran: who received before who sent."""
    waiting, found = sorted(keys), list[Key]()
    while waiting:
        ready = [k for k in waiting if all(j.receiver in found for j in joints if j.sender == k)] or waiting[:1]
        found += ready
        waiting = [key for key in waiting if key not in ready]
    return found


def _assembled(graphs: list[BackwardPass], joints: list[_Joint]) -> BackwardPass:
    leaves = {_id(joint.receiver, joint.leaf): _id(joint.sender, joint.output) for joint in joints}
    nodes, edges, calls, facts = list[Node](), list[Edge](), list[ModuleCall](), list[Fact]()
    order = 0
    for graph in graphs:
        key = graph.rank, graph.index
        for node in graph.nodes:
            name = _id(key, node.id)
            if name not in leaves:
                call = None if node.call is None else node.call + len(calls)
                ran = None if node.order is None else node.order + order
                nodes.append(_sent(replace(node, id=name, call=call, order=ran), is_sent=name in leaves.values()))
        for edge in graph.edges:
            target = _id(key, edge.target)
            edges.append(replace(edge, source=_id(key, edge.source), target=leaves.get(target, target)))
        calls += [replace(c, parent=None if c.parent is None else c.parent + len(calls)) for c in graph.calls]
        facts += [replace(fact, nodes=tuple(_id(key, node) for node in fact.nodes)) for fact in graph.facts]
        order += len(graph.nodes)
    known = {node.id for node in nodes}
    first = min(graphs, key=lambda graph: graph.rank)
    return BackwardPass(
        first.index, first.kind, tuple(nodes), tuple(edges), first.call, first.rank, calls=tuple(calls),
        facts=tuple(fact for fact in facts if known.issuperset(fact.nodes)), step=first.step,
    )  # fmt: skip


def _id(key: Key, node: str) -> str:
    return f"r{key[0]}p{key[1]}.{node}"


def _sent(node: Node, *, is_sent: bool) -> Node:
    """Return an output that another rank received as what it is in the whole: one more step on the way."""
    return replace(node, kind="function", op="Send", name=node.name.removeprefix(SENT)) if is_sent else node
