"""Origins of NaN and infinity in the backward: the op that computed them from a finite gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.nonfinite.broken_element import element_sent, in_words, input_name
from gradtrace.checks.nonfinite.nonfinite_reasons import SELECT, backward_reason, came_from
from gradtrace.checks.stats_queries import is_broken, is_zero
from gradtrace.model import Finding
from gradtrace.ops import op_of
from gradtrace.wording.nodes import described, how_many, nonfinite_word
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.checks.nonfinite.broken_element import Element
    from gradtrace.model import BackwardPass, Edge, Node

__all__ = ["nonfinite_origin"]

EXPLOITED = "GradScaler finds this, skips the step and lowers its scale, so a few of these are nothing to mend"


class _Sent(NamedTuple):
    """Broken gradients sent by one op that received a finite one."""

    node: Node
    edges: list[Edge]


@check("nonfinite-origin", after=("nonfinite-forward",))
def nonfinite_origin(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """An op that turned a finite gradient into NaN or infinity.

    Once one gradient is NaN, so is everything downstream of it. Naming them all would bury the cause, so
    only an edge that is broken while its source was not is reported.
    """
    scaled = any(".scale(" in node.source.text for node in graph.nodes[:4] if node.source)
    for node in graph.nodes:
        broken = [edge for edge in graph.edges_from[node.id] if is_broken(edge.grad)]
        if broken and node.kind == "output":
            yield _broken_seed(node, broken[0])
        elif broken and not any(map(is_broken, node.grads)):
            yield _origin(graph, _Sent(node, broken), scaled=scaled)


def _becomes_nan(graph: BackwardPass, sent: _Sent) -> Node | None:
    """Return the op at which an infinity turned into NaN."""
    if any(edge.grad is not None and edge.grad.nan for edge in sent.edges):
        return None
    below = {edge.target for edge in sent.edges}
    for node in graph.nodes:
        if node.id in below:
            edges = graph.edges_from[node.id]
            if any(edge.grad is not None and edge.grad.nan for edge in edges):
                return node
            below.update(edge.target for edge in edges if is_broken(edge.grad))
    return None


def _broken_seed(node: Node, edge: Edge) -> Finding:
    return Finding(
        "nonfinite-origin", "error",
        f"backward was started at {node.name or 'its output'} with a gradient that holds {nonfinite_word(edge.grad)}",
        "check the tensor given as backward(gradient=...) or grad(grad_outputs=...)", (node.id,),
    )  # fmt: skip


def _origin(graph: BackwardPass, sent: _Sent, *, scaled: bool) -> Finding:
    node, edge = sent.node, sent.edges[0]
    mask = _mask(graph, sent)
    told = [
        f"{described(node)} received a finite gradient and sent on {nonfinite_word(edge.grad)} ({how_many(edge.grad)})"
    ]
    element = element_sent(graph, edge)
    reason = backward_reason(node, edge, element)
    because = ": ".join(filter(None, (_place_of(graph, edge, element), reason.said)))
    if because:
        told.append(f"There {because}" if element is None or element.value is not None else because.capitalize())
    told += filter(None, [came_from(element)])
    if mask is not None:
        times = "NaN" if element is not None and element.value == "nan" else "an infinite derivative"
        told.append(f"The element is masked later, at {described(mask)}, but 0 times {times} is NaN")
    later = _becomes_nan(graph, sent)
    if later is not None:
        told.append(f"From there on 0 times infinity makes NaN, first in {described(later)}")
    reached = any(leaf.kind == "leaf" and any(map(is_broken, leaf.grads)) for leaf in graph.nodes)
    if not reached:
        told.append("It does not get as far as a leaf, so nothing is lost yet")
    overflow = scaled and (edge.grad is None or edge.grad.dtype == "float16")
    return Finding(
        "nonfinite-origin",
        "info" if overflow or not reached else "error",
        ". ".join(told),
        EXPLOITED if overflow else _remedy(masked=mask is not None and reason.remedy != SELECT, remedy=reason.remedy),
        (node.id, *dict.fromkeys(edge.target for edge in sent.edges)),
        node.source or node.library,
    )


def _remedy(*, masked: bool, remedy: str) -> str:
    if masked:
        more = f"; or {remedy}" if remedy else ""
        return f"mask the input, not the output: give the op a safe value where the mask is off{more}"
    return remedy or "keep the input where the derivative is finite: clamp it, or add eps"


def _place_of(graph: BackwardPass, edge: Edge, element: Element | None) -> str:
    """Return the element of the input, its value and the gradient there; if unknown, the range."""
    target = graph.by_id[edge.target]
    if element is not None:
        return in_words(input_name(target), element)
    known = target.values[edge.target_index] if edge.target_index < len(target.values) else None
    if known is None or known.min is None:
        return ""
    return f"{input_name(target)} is in [{number(known.min)}, {number(known.max)}]"


def _mask(graph: BackwardPass, sent: _Sent) -> Node | None:
    """Return the op nearest to the loss's side that gave the broken elements a gradient of exactly zero."""
    if not _arrived_zero(graph, sent):
        return None
    seen, waiting = {sent.node.id}, [sent.node]
    for node in waiting:
        for edge in graph.edges_into[node.id]:
            source = graph.by_id[edge.source]
            if source.id in seen or source.kind == "output":
                continue
            if op_of(source.op).masks and not _all_zero(source) and _adds_zeros(source, edge):
                return source
            seen.add(source.id)
            waiting.append(source)
    return None


def _adds_zeros(source: Node, edge: Edge) -> bool:
    """Tell whether an op sent zeros where it had received none: one that scales hands on those that arrived."""
    arrived = max((grad.zeros or 0.0 for grad in source.grads if grad is not None), default=0.0)
    return edge.grad is not None and (edge.grad.zeros or 0.0) > arrived


def _all_zero(node: Node) -> bool:
    return all(is_zero(grad) for grad in node.grads)


def _arrived_zero(graph: BackwardPass, sent: _Sent) -> bool:
    """Tell whether the gradient that arrived was zero where the one sent on is broken."""
    element = element_sent(graph, sent.edges[0])
    if element is not None and element.arrived is not None:
        return element.arrived == 0
    arrived = next((grad for grad in sent.node.grads if grad is not None), None)
    return arrived is not None and bool(arrived.zeros)
