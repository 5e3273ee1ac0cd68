"""Facts of a pass whose output is not finite: the births, and overflows that nothing shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.backward.raw_pass import RawFact
from gradtrace.recording.facts.nonfinite_element import holds_nonfinite
from gradtrace.recording.stats.device import is_here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.facts.nonfinite_births import Births, Origin
    from gradtrace.recording.facts.torch_calls import CallFacts

__all__ = ["leaf_element", "nonfinite", "swallowed"]

# The sequence numbers of the nodes of a pass, its graph, and the log of its thread.
Graph = tuple["Sequence[int]", "Walk", Any]


def nonfinite(births: Births, graph: Graph, outputs: Iterable[Any]) -> Iterator[RawFact]:
    """Yield the origins of outputs that are not finite."""
    origins: dict[Origin, None] = {}
    # Other types may run code of their own to compute this, which would be recorded.
    for output in outputs:
        if type(output) is torch.Tensor and is_here(output) and holds_nonfinite(output):
            origins.update(dict.fromkeys(births.of(output)))
            yield from _wrapped_leaves(graph[1])
    yield from (_fact("nonfinite", graph, origin) for origin in origins if origin.kind != "unseen")


def swallowed(calls: CallFacts, graph: Graph) -> Iterator[RawFact]:
    """Yield the overflows that a node of this pass turned into zeros."""
    for position, origin in calls.swallowed_among(list(graph[0])):
        fact = _fact("swallowed", graph, origin)
        yield fact._replace(positions=(*fact.positions, position))


def _fact(kind: str, graph: Graph, origin: Origin) -> RawFact:
    """Return the origin of values that are not finite, with the node that computed or first used them."""
    numbers, walk, own = graph
    entered = origin.entered if origin.kind != "born" else None
    _, log, number = entered or (None, origin.log, origin.number)
    positions: tuple[int, ...] = (list(numbers).index(number),) if log is own and number in numbers else ()
    if origin.kind == "leaf" and origin.leaf is not None:
        leaf = origin.leaf()
        positions = tuple(p for p in walk.leaves if walk.nodes[p].variable is leaf)
    made = origin.place if origin.kind != "born" or not positions else None
    return RawFact(kind, positions, made, {"kind": origin.kind, **origin.data})


def _wrapped_leaves(graph: Walk) -> Iterator[RawFact]:
    """Yield the leaves of a class of their own, such as DTensor, that wrap a tensor which is not finite."""
    for position in graph.leaves:
        inner = getattr(graph.nodes[position].variable, "_local_tensor", None)
        if type(inner) is torch.Tensor and is_here(inner) and holds_nonfinite(inner):
            what = "NaN" if bool(inner.isnan().any()) else "infinity"
            yield RawFact("nonfinite", (position,), None, {"kind": "leaf", "what": what})


def leaf_element(leaf: torch.Tensor | None, element: Attribute) -> float | None:
    """Return an element of a leaf; None where it is not finite or cannot be read."""
    if leaf is None or not isinstance(element, list) or leaf.layout is not torch.strided:
        return None
    value = float(leaf.detach()[tuple(int(str(index)) for index in element)])
    return value if value - value == 0 else None
