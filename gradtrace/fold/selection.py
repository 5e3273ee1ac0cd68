"""The part of a pass that is asked for: the ways through some of its nodes, or between two of them."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import PurePath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.errors import UnknownNameError
from gradtrace.ops import op_name
from gradtrace.wording.nodes import location, position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradtrace.model import BackwardPass, Node

__all__ = ["around", "between", "check_opened", "named", "reaching", "through"]

MOST_NAMES = 5  # that an error lists


def through(graph: BackwardPass, name: str) -> BackwardPass:
    """Return the ways through the nodes of this name, from the outputs to the leaves."""
    seeds = named(graph, name)
    return _only(graph, _onward(graph, seeds) | _backward(graph, seeds))


def around(graph: BackwardPass, name: str, radius: int) -> set[str]:
    """Return the ids of the nodes of this name, and of those at most so many edges from one of them."""
    near = wave = named(graph, name)
    for _ in range(radius):
        wave = {
            end
            for node_id in wave
            for ends in (
                (edge.target for edge in graph.edges_from[node_id]),
                (edge.source for edge in graph.edges_into[node_id]),
            )
            for end in ends
        } - near
        near = near | wave
    return near


def reaching(graph: BackwardPass, ids: set[str]) -> set[str]:
    """Return the ids of the nodes from which a way leads to one of these, these included."""
    return _backward(graph, ids)


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

    Raises UnknownNameError with the names that are most like it.
    """
    for key in (_by_id, _by_name, _by_line, _by_op, _by_module, _by_end_of_path):
        matching = {node.id for node in graph.nodes if key(node, name)}
        if matching:
            return matching
    near = _near_lines(graph, name) or _nearest(name, _names(graph))
    hint = f"perhaps {', '.join(near)}" if near else "name a variable, an op, a module, an id, or a line as train.py:42"
    raise UnknownNameError(f"unknown node {name!r}", hint)


def check_opened(graph: BackwardPass, paths: Iterable[str]) -> None:
    """Raise UnknownNameError for a path that no module of the pass is at, nor any below."""
    known = {".".join(parts[:size]) for parts in _module_paths(graph) for size in range(1, len(parts) + 1)} - {""}
    for path in paths:
        if path not in known:
            near = _nearest(path, sorted(known)) or sorted(known)[:MOST_NAMES]
            hint = f"perhaps {', '.join(near)}" if near else "no module was called in this pass"
            raise UnknownNameError(f"unknown module {path!r}", hint)


def _module_paths(graph: BackwardPass) -> set[tuple[str, ...]]:
    return {tuple(path.split(".")) for path in {*(call.path for call in graph.calls), *(n.module for n in graph.nodes)}}


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the names that are most like this one, whatever their case."""
    by_lower = {each.lower(): each for each in known if each}
    near = get_close_matches(name.lower(), by_lower, n=MOST_NAMES, cutoff=0.75)
    return [by_lower[each] for each in near]


def _names(graph: BackwardPass) -> dict[str, None]:
    names = dict.fromkeys(name for node in graph.nodes for name in (node.name, node.op, node.module))
    return names | dict.fromkeys(op_name(node.op) for node in graph.nodes if node.kind == "function")


def _near_lines(graph: BackwardPass, name: str) -> list[str]:
    """Return the lines nearest to one of a file that has nodes, in their order."""
    file, colon, line = name.rpartition(":")
    if not colon or not line.isdecimal():
        return []
    sources = (source for node in graph.nodes for source in (node.source, node.library) if source)
    lines = {s.line for s in sources if file in {s.filename, PurePath(s.filename).name}}
    return [f"{file}:{each}" for each in sorted(sorted(lines, key=lambda each: abs(each - int(line)))[:MOST_NAMES])]


def _by_id(node: Node, name: str) -> bool:
    return node.id == name


def _by_name(node: Node, name: str) -> bool:
    return node.name == name


def _by_line(node: Node, name: str) -> bool:
    return any(name in {location(source), position(source)} for source in (node.source, node.library) if source)


def _by_op(node: Node, name: str) -> bool:
    return node.kind == "function" and (node.op == name or op_name(node.op) == name)


def _by_module(node: Node, name: str) -> bool:
    return bool(node.module) and (node.module == name or node.module.startswith(f"{name}."))


def _by_end_of_path(node: Node, name: str) -> bool:
    """Tell whether a module's or a leaf's path ends so: ``layer4.2`` is found in ``model.layer4.2.conv1``."""
    return any(f".{name}." in f".{path}." for path in (node.module, node.name) if "." in path)


def _only(graph: BackwardPass, kept: set[str]) -> BackwardPass:
    nodes = tuple(node for node in graph.nodes if node.id in kept)
    return replace(graph, nodes=nodes, edges=tuple(e for e in graph.edges if e.source in kept and e.target in kept))


def _onward(graph: BackwardPass, seeds: Iterable[str]) -> set[str]:
    return _reached(seeds, lambda node_id: (edge.target for edge in graph.edges_from[node_id]))


def _backward(graph: BackwardPass, seeds: Iterable[str]) -> set[str]:
    return _reached(seeds, lambda node_id: (edge.source for edge in graph.edges_into[node_id]))


def _reached(seeds: Iterable[str], next_ones: Callable[[str], Iterable[str]]) -> set[str]:
    reached = set(seeds)
    waiting = list(reached)
    while waiting:
        for other in next_ones(waiting.pop()):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached
