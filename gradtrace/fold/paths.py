"""The part of a pass that is asked for: the ways through some of its nodes, or between two of them."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradtrace.model import BackwardPass, Node

__all__ = ["between", "focused", "named"]

MOST_NAMES = 12  # that an error lists


def focused(graph: BackwardPass, name: str) -> BackwardPass:
    """Return the ways through the nodes of this name, from the outputs to the leaves."""
    seeds = named(graph, name)
    return _only(graph, _onward(graph, seeds) | _backward(graph, seeds))


def between(graph: BackwardPass, first: str, last: str) -> BackwardPass:
    """Return the ways between the nodes of two names, whichever comes first; raises UnknownNameError where none is."""
    one, two = named(graph, first), named(graph, last)
    kept = (_onward(graph, one) & _backward(graph, two)) or (_onward(graph, two) & _backward(graph, one))
    if not kept:
        raise UnknownNameError(
            f"no way leads between {first!r} and {last!r}", "name two nodes of which one reaches the other"
        )
    return _only(graph, kept)


def named(graph: BackwardPass, name: str) -> set[str]:
    """Return the ids of the nodes that are called so: by id, variable, op, module, or line as ``train.py:42``.

    Raises UnknownNameError with some of the names that there are.
    """
    for key in (_by_id, _by_name, _by_line, _by_op, _by_module):
        found = {node.id for node in graph.nodes if key(node, name)}
        if found:
            return found
    known = dict.fromkeys(node.name or node.op for node in graph.nodes)
    raise UnknownNameError.of("node", name, [*list(known)[:MOST_NAMES], "an id", "a line as train.py:42"])


def _by_id(node: Node, name: str) -> bool:
    return node.id == name


def _by_name(node: Node, name: str) -> bool:
    return node.name == name


def _by_line(node: Node, name: str) -> bool:
    return any(
        name in {f"{source.filename}:{source.line}", f"{PurePath(source.filename).name}:{source.line}"}
        for source in (node.source, node.library)
        if source
    )


def _by_op(node: Node, name: str) -> bool:
    return node.kind == "function" and (node.op == name or node.op.partition("Backward")[0] == name)


def _by_module(node: Node, name: str) -> bool:
    return bool(node.module) and (node.module == name or node.module.startswith(f"{name}."))


def _only(graph: BackwardPass, kept: set[str]) -> BackwardPass:
    nodes = tuple(node for node in graph.nodes if node.id in kept)
    return replace(graph, nodes=nodes, edges=tuple(e for e in graph.edges if e.source in kept and e.target in kept))


def _onward(graph: BackwardPass, seeds: Iterable[str]) -> set[str]:
    return _reached(seeds, lambda node_id: (edge.target for edge in graph.edges_from[node_id]))


def _backward(graph: BackwardPass, seeds: Iterable[str]) -> set[str]:
    return _reached(seeds, lambda node_id: (edge.source for edge in graph.edges_into[node_id]))


def _reached(seeds: Iterable[str], next_ones: Callable[[str], Iterable[str]]) -> set[str]:
    found = set(seeds)
    waiting = list(found)
    while waiting:
        for other in next_ones(waiting.pop()):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found
