"""Relations that hold in every trace: whoever reads one that was loaded need not doubt it.

Types and ranges stand in model.py and are held while a file is decoded. Here is what must fit together: ids,
positions, parents, shapes and values, lengths, the data of facts. Time and memory grow with the trace, no faster.
"""

from __future__ import annotations

import math
from itertools import chain
from reprlib import Repr
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gradtrace.model import BackwardPass, Fact, ForwardCall, Held, ModuleCall, Node, Operand, TensorStats, Trace

__all__ = ["flaws"]

LARGEST = 2**63 - 1  # elements of a tensor, and the largest of integers
LONGEST_ID = 100
_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:")
DEEPEST = 64  # lists in each other: the dimensions that a tensor can have

_short = Repr()
_short.maxstring = _short.maxother = 60
_Shape = list[int]
_BIRTH: list[Any] = [
    ("op", str),
    ("what", str),
    ("from", str),
    ("count", int),
    ("dtype", str),
    ("shape", _Shape),
    ("element", _Shape),
    ("operands", list[tuple[float | str | None, _Shape, float | None, float | None] | None]),
]
# What the checks rely on in the data of a fact; what may be missing has a default. More may be there.
_FIELDS: dict[str, list[Any]] = {
    "freed": [("pass", int), ("same", bool)],
    "changed": [("op", str, ""), ("saved", str, ""), ("shape", _Shape, msgspec.field(default_factory=list))],
    "unused": [("name", str), ("shape", _Shape)],
    "cut": [("how", str)],
    "broadcast": [("op", str), ("left", _Shape), ("right", _Shape), ("result", _Shape)],
    "nonfinite": [("kind", str), ("what", str, "NaN"), ("shape", _Shape, msgspec.field(default_factory=list))],
    "swallowed": _BIRTH,
    "born": _BIRTH,
    "broken-gradient": [
        ("input", int),
        ("element", _Shape),
        ("arrived", float | str | None),
        ("saved", list[tuple[str, float | str | None]]),
        ("value", float | str | None, None),
    ],
    "held": [("passes", int)],
    "no-second-order": [("once_differentiable", bool | None, None)],
    "reused": [("names", list[str]), ("times", int), ("passes", int), ("pass", int)],
    "detached": [("how", str), ("names", list[str | _Shape]), ("pass", int)],
    "unreached": [("names", list[str | _Shape]), ("used", bool), ("how", str | None, None)],
    "clip-misplaced": [("how", str), ("times", int)],
    "no-effect": [("how", str), ("times", int), ("names", list[str])],
    "graph-kept": [("how", str), ("passes", int), ("nodes", int)],
    "older-nodes": [("count", int), ("of", int)],
    "frozen": [("names", list[str])],
    "not-a-leaf": [("text", str), ("file", str), ("line", int)],
    "alias": [("name", str), ("how", str, ""), ("pass", int, 0)],
    "raised": [("messages", list[str])],
    "distributed-autograd": [("passes", int)],
    "not-scalar": [("name", str), ("shape", _Shape)],
}
_FACTS = {kind: msgspec.defstruct(kind.replace("-", "_"), fields) for kind, fields in _FIELDS.items()}


def flaws(trace: Trace) -> Iterator[str]:
    """Yield what does not fit together in a trace, each in one line that says where."""
    yield from _passes(trace)
    known = [graph.by_id for graph in trace.passes]
    for fact in trace.facts:
        yield from _fact(fact, lambda node_id: any(node_id in ids for ids in known))
    if trace.world is not None and len(trace.world.hosts) > len(trace.world.ranks):
        yield f"there are {len(trace.world.hosts)} hosts of {len(trace.world.ranks)} ranks"
    for series in trace.series:
        if not len(series.passes) == len(series.norms) == len(series.reached):
            yield f"the series of {_short.repr(series.name)} has lists of different lengths"
    for rows in trace.pass_series:
        count = len(rows.passes)
        if {len(rows.losses), len(rows.steps), len(rows.seconds), len(rows.scales) or count} != {count}:
            yield "the series of passes has lists of different lengths"
    for update in trace.updates:
        if not len(update.steps) == len(update.weights) == len(update.updates) == len(update.zeros):
            yield f"the updates of {_short.repr(update.name)} have lists of different lengths"


def _passes(trace: Trace) -> Iterator[str]:
    seen: dict[tuple[int, int], BackwardPass] = {}
    for graph in trace.passes:
        for flaw in _pass(graph):
            yield f"{flaw} in pass {graph.index}"
        if (graph.rank, graph.index) in seen:
            yield f"there are two passes {graph.index}"
        if graph.parent is not None and graph.parent >= graph.index:
            yield f"pass {graph.index} is inside pass {graph.parent}, which began later"
        seen[graph.rank, graph.index] = graph
    for graph in trace.passes:
        for origin in (node.origin for node in graph.nodes if node.origin is not None and node.origin.node):
            made_in = seen.get((graph.rank, origin.pass_index))
            if made_in is not None and origin.node not in made_in.by_id:
                yield f"pass {origin.pass_index} has no node {_short.repr(origin.node)}, which is an origin"


def _pass(graph: BackwardPass) -> Iterator[str]:
    ids = graph.by_id
    if len(ids) < len(graph.nodes):
        yield "two nodes have the same id"
    for edge in graph.edges:
        if edge.source not in ids or edge.target not in ids:
            yield f"an edge leads from {_short.repr(edge.source)} to {_short.repr(edge.target)}"
        if edge.grad is not None:
            yield from _stats(edge.grad)
    for node in graph.nodes:
        yield from _node(node, len(graph.calls))
    yield from _calls(graph.calls)
    for fact in graph.facts:
        yield from _fact(fact, ids.__contains__)
    named = chain([graph.error.node] if graph.error else (), (each.node for each in graph.comparisons))
    yield from _unknown((node_id for node_id in named if node_id is not None), ids.__contains__)
    for comparison in graph.comparisons:
        yield from chain(_plain(comparison.autograd), _plain(comparison.numeric))
    sizes = _Sizes(graph)
    for call in graph.forward:
        yield from sizes.call(call)
    for held in graph.held:
        yield from sizes.held(held)


def _is_id(text: str) -> bool:
    """Tell whether a text may be the id of a node, which pictures and commands name it by; _ marks a copy of one."""
    return text.isascii() and (text.isalnum() or (bool(text) and set(text) <= _ID)) and len(text) <= LONGEST_ID


def _node(node: Node, calls: int) -> Iterator[str]:
    if not _is_id(node.id):
        yield f"a node has the id {_short.repr(node.id)}"
    if node.call is not None and node.call >= calls:
        yield f"node {_short.repr(node.id)} was made in module call {node.call}, of {calls} calls"
    for stats in chain(node.values, node.grads, (node.reduced, node.accumulated)):
        if stats is not None:
            yield from _stats(stats)
    for saved in node.saved:
        yield from _shape(saved.shape)
    for value in node.attributes.values():
        yield from _plain(value)


def _stats(stats: TensorStats) -> list[str]:
    found = _shape(stats.shape)
    if stats.values is not None and not _fits(stats.values, stats.shape):
        found.append(f"values are not of the shape {stats.shape}")
    if (stats.nan or stats.inf) and stats.nan + stats.inf > math.prod(stats.shape):
        found.append(f"there are {stats.nan} nan and {stats.inf} inf in the shape {stats.shape}")
    if stats.min is not None and stats.max is not None and stats.min > stats.max:
        found.append(f"the minimum {stats.min} is above the maximum {stats.max}")
    return found


def _shape(shape: tuple[int, ...]) -> list[str]:
    return [f"the shape {_short.repr(shape)} has too many elements"] if math.prod(shape) > LARGEST else []


def _fits(values: Any, shape: tuple[int, ...]) -> bool:
    """Tell whether nested lists of numbers have this shape."""
    level = [values]
    for length in shape:
        if not all(type(each) is list and len(each) == length for each in level):
            return False
        level = [item for each in level for item in each]
    return all(each is None or _is_number(each) for each in level)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= 2 * LARGEST + 1)


def _plain(value: Any) -> Iterator[str]:
    """Yield a flaw where a value is not a number, a text, None, or lists of such, not too deep in each other."""
    level = [value]
    for _ in range(DEEPEST + 1):
        for each in level:
            if not (each is None or isinstance(each, (str, list)) or _is_number(each)):
                yield f"a value is {_short.repr(each)}"
        level = [item for each in level if type(each) is list for item in each]
        if not level:
            return
    yield f"a value has more than {DEEPEST} lists in each other"


def _calls(calls: tuple[ModuleCall, ...]) -> Iterator[str]:
    """Yield the module calls that are inside none or inside themselves."""
    ends = [False] * len(calls)  # whether the way outward from a call ends
    for start, call in enumerate(calls):
        if call.parent is not None and call.parent >= len(calls):
            yield f"module call {start} is inside call {call.parent}, of {len(calls)}"
            return
    for start in range(len(calls)):
        way, at = dict[int, None](), start
        while not ends[at] and at not in way:
            way[at] = None
            outer = calls[at].parent
            if outer is None:
                ends[at] = True
            else:
                at = outer
        if not ends[at]:
            yield f"module call {at} is inside itself"
            return
        for each in way:
            ends[each] = True


def _fact(fact: Fact, is_known: Callable[[str], bool]) -> Iterator[str]:
    yield from _unknown(fact.nodes, is_known)
    for value in fact.data.values():
        yield from _plain(value)
    kind = "born" if fact.kind == "nonfinite" and fact.data.get("kind") == "born" else fact.kind
    if kind in _FACTS:
        try:
            msgspec.convert(fact.data, _FACTS[kind])
        except msgspec.ValidationError as error:
            yield f"the data of a fact {fact.kind!r} is wrong: {f'{error}'.replace('Expected', 'expected', 1)}"
    if fact.kind in {"broadcast", "swallowed"} and not fact.nodes:
        yield f"a fact {fact.kind!r} has no node"


def _unknown(node_ids: Iterable[str], is_known: Callable[[str], bool]) -> Iterator[str]:
    for node_id in node_ids:
        if not is_known(node_id):
            yield f"there is no node {_short.repr(node_id)}, though it is spoken of"


class _Sizes:
    """Sizes of a pass's tensors in elements, which the bytes held of them must fit."""

    def __init__(self, graph: BackwardPass) -> None:
        self._ids = graph.by_id
        self._constants: dict[int, int] = {}

    def call(self, call: ForwardCall) -> Iterator[str]:
        """Yield what is wrong with a forward call."""
        yield from _unknown(call.nodes, self._ids.__contains__)
        level = [*call.args, *call.kwargs.values(), *call.results]
        for _ in range(DEEPEST + 1):
            for operand in level:
                yield from self._operand(operand)
            level = [item for operand in level for item in operand.items or ()]
            if not level:
                return
        yield f"an operand of {_short.repr(call.function)} has more than {DEEPEST} lists in each other"

    def _operand(self, operand: Operand) -> Iterator[str]:
        yield from _unknown([operand.node] if operand.node else (), self._ids.__contains__)
        yield from _plain(operand.value)
        if operand.tensor is not None:
            yield from _stats(operand.tensor)
            self._constants[operand.key] = math.prod(operand.tensor.shape)

    def held(self, held: Held) -> Iterator[str]:
        """Yield what is wrong with the elements held of a tensor; to be asked after all calls."""
        yield from _unknown([held.node] if held.node else (), self._ids.__contains__)
        width = int(held.dtype[1])
        wanted = self._elements(held)
        for kept in (held.value, held.grad):
            if len(kept) % width or (kept and wanted is not None and len(kept) != wanted * width):
                yield f"what is held of {_short.repr(held.node or held.key)} has {len(kept)} bytes"

    def _elements(self, held: Held) -> int | None:
        if not held.node:
            return self._constants.get(held.key)
        node = self._ids.get(held.node)
        stats = node.values[held.output] if node is not None and held.output < len(node.values) else None
        return None if stats is None else math.prod(stats.shape)
