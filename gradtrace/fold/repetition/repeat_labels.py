"""Labels of nodes that are the same for two nodes which can repeat each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gradtrace.fold.line import Line
    from gradtrace.model import Node, TensorStats

__all__ = ["PROGRESSES", "labels_of", "pattern"]

PROGRESSES = ("index", "start", "end")  # attributes that may count up or down from segment to segment


def labels_of(line: Line, opened: frozenset[int]) -> list[int]:
    """Return a number for each place on the line: equal where op, tensors, attributes and edges' ends are.

    What is ``opened``, and the node that failed, is like no other.
    """
    numbers: dict[Hashable, int] = {}
    failed = line.graph.error.node if line.graph.error else None
    kinds = _Kinds(line)
    labels = []
    for at, node in enumerate(line.nodes):
        apart = at if at in opened or node.id == failed or node.kind == "output" else -1
        key = (apart, kinds.node(node), kinds.ends(at))
        labels.append(numbers.setdefault(key, len(numbers)))
    return labels


def pattern(path: str) -> str:
    """Return a module's path with a sign for each number in it: ``h.3.attn`` and ``h.4.attn`` are one pattern.

    >>> pattern("h.3.attn")
    'h.#.attn'
    """
    return ".".join("#" if part.isdecimal() else part for part in path.split("."))


class _Kinds:
    """Keys of nodes and leaves, each computed once for what is often the same."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._patterns: dict[str, str] = {}

    def node(self, node: Node) -> Hashable:
        return (
            node.op,
            self._pattern(node.module),
            node.order is None,
            node.origin.op if node.origin else "",
            _tensors(node.grads),
            _tensors(node.values),
            _plain(node.attributes) if node.attributes else None,
        )

    def ends(self, at: int) -> Hashable:
        """Return where a node's edges leave, and for those to a leaf what it is."""
        line = self._line
        onward = tuple([(e.source_index, e.target_index) for _, e in line.onward[at]])
        leaves = line.to_leaves[at]
        if not leaves:
            return onward
        return onward, tuple([(e.source_index, self._leaf(line.graph.by_id[e.target])) for e in leaves])

    def _leaf(self, leaf: Node) -> Hashable:
        return self._pattern(leaf.name), _tensors(leaf.values), _tensors(leaf.grads), leaf.order is None

    def _pattern(self, path: str) -> str:
        known = self._patterns.get(path)
        if known is None:
            known = self._patterns[path] = pattern(path.replace("[", ".").replace("]", ""))
        return known


def _tensors(tensors: tuple[TensorStats | None, ...]) -> Hashable:
    if len(tensors) == 1:
        s = tensors[0]
        return s and (s.shape, s.dtype)
    return tuple([s and (s.shape, s.dtype) for s in tensors])


def _plain(attributes: dict[str, Any]) -> Hashable:
    return tuple(
        [
            (key, None if key in PROGRESSES and type(value) is int else repr(value))
            for key, value in sorted(attributes.items())
        ]
    )
