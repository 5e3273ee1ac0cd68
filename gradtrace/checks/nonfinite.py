"""NaN and infinity: where they were born, forward or backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.broken_element import element_computed, element_sent, in_words, input_name
from gradtrace.checks.singular_derivatives import backward_reason, forward_reason
from gradtrace.checks.stats_queries import inputs, is_broken, is_zero, size
from gradtrace.model import Finding
from gradtrace.ops import op_of
from gradtrace.wording.nodes import as_tuple, bad_word, where
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.checks.broken_element import Element
    from gradtrace.model import BackwardPass, Edge, Fact, Node, TensorStats

__all__ = ["nonfinite_forward", "nonfinite_origin"]

EXPLOITED = "GradScaler finds this, skips the step and lowers its scale, so a few of these are nothing to mend"


@check("nonfinite-forward", carried=("nonfinite-forward", "nonfinite-origin"))
def nonfinite_forward(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """The forward op whose inputs were finite and whose output, on its way to the loss, was not.

    Only what reached an output counts: a mask of -inf before a softmax, or a broken element that was
    replaced later, is no fault of the forward.
    """
    for node in _reaching(graph):
        if node.kind == "leaf":
            yield _broken_leaf(node)
            continue
        before = [stats for _, stats in inputs(graph, node)]
        kinds = [kind for kind in ("nan", "inf") if _count(node.values, kind) and not _count(before, kind)]
        if not kinds or (kinds == ["inf"] and op_of(node.op).writes and any(before)):
            continue
        given = next((fact for fact in graph.facts if fact.kind == "broken-data" and node.id in fact.nodes), None)
        if given is not None and not any(map(is_broken, before)):
            yield _broken_data(node, given)
        elif not any(map(is_broken, before)) or ("nan" in kinds and not _inf_is_birth(graph, node)):
            yield _birth(graph, node)


def _reaching(graph: BackwardPass) -> Iterator[Node]:
    """Yield the nodes with a non-finite forward value from which there is a broken way to an output."""
    waiting = [node for node in graph.nodes if node.kind == "output" and any(map(is_broken, node.values))]
    seen = {node.id for node in waiting}
    while waiting:
        node = waiting.pop()
        for edge, stats in inputs(graph, node):
            target = graph.by_id[edge.target]
            # Where Python saw no forward value (inside a composite op) the way goes on.
            unknown = stats is None and target.kind == "function"
            if target.id not in seen and (is_broken(stats) or unknown):
                seen.add(target.id)
                waiting.append(target)
    yield from (n for n in graph.nodes if n.id in seen and n.kind != "output" and any(map(is_broken, n.values)))


def _count(tensors: tuple[TensorStats | None, ...] | list[TensorStats | None], kind: str) -> int:
    return sum(getattr(stats, kind) for stats in tensors if stats is not None)


def _inf_is_birth(graph: BackwardPass, node: Node) -> bool:
    """Tell whether the infinities that came in were born by an op, which then is the one to blame."""
    return any(
        is_broken(stats) and not op_of(graph.by_id[edge.target].op).writes for edge, stats in inputs(graph, node)
    )


def _broken_leaf(node: Node) -> Finding:
    value = node.values[0]
    return Finding(
        "nonfinite-forward", "error",
        f"{node.name or 'a leaf'} itself holds {bad_word(value)} ({_how_many(value)}) before the forward starts, "
        "and the loss with it",
        "check where it was loaded or initialised, and whether an earlier step wrote a non-finite update into it",
        (node.id,),
    )  # fmt: skip


def _broken_data(node: Node, given: Fact) -> Finding:
    broken = f"its {given.data['saved']}, of shape {as_tuple(given.data['shape'])}"
    return Finding(
        "nonfinite-forward", "error",
        f"{where(node)} was given data that is not finite ({broken}); from there on it is {bad_word(_worst(node))}",
        "check the input data: torch.isfinite(x).all() before the model, and how missing values are encoded",
        (node.id,), node.source or node.library,
    )  # fmt: skip


def _birth(graph: BackwardPass, node: Node) -> Finding:
    output = _worst(node)
    facts = [_input_fact(graph, node, edge, stats) for edge, stats in inputs(graph, node) if stats is not None]
    told = "; ".join(dict.fromkeys(fact for fact in facts if fact))
    came_in = "infinities" if any(is_broken(stats) for _, stats in inputs(graph, node)) else "finite inputs"
    reason = forward_reason(node, graph, output)
    return Finding(
        "nonfinite-forward", "error",
        f"{where(node)} turned {came_in} into {bad_word(output)} ({_how_many(output)})" + (f": {told}" if told else ""),
        reason or "keep its input inside the range where it is finite: clamp it, add eps, or use the stable form "
        "(log_softmax, logsumexp, log1p, ...)",
        (node.id,), node.source or node.library,
    )  # fmt: skip


def _input_fact(graph: BackwardPass, node: Node, edge: Edge, stats: TensorStats) -> str:
    """Return which input element it was, or the range of the input."""
    name = input_name(graph.by_id[edge.target])
    element = element_computed(graph, node, stats, _worst(node))
    if element is not None and element.value is not None:
        return f"{name}{element.place} is {number(element.value)}"
    if not size(stats):
        return f"{name} is empty, of shape {as_tuple(stats.shape)}"
    at = f", first at element {element.place}" if element is not None and element.place else ""
    return f"{name} is in [{number(stats.min)}, {number(stats.max)}]{at}" if stats.min is not None else ""


def _worst(node: Node) -> TensorStats | None:
    return next((stats for stats in node.values if is_broken(stats)), None)


def _how_many(stats: TensorStats | None) -> str:
    if stats is None:
        return "unknown"
    total = 1
    for length in stats.shape:
        total *= length
    return f"{stats.nan + stats.inf:,} of {total:,} element{'' if total == 1 else 's'}"


class _Sent(NamedTuple):
    """The broken gradients that one op sent, though what it received was finite."""

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
    """Return the op at which an infinity that was sent turned into NaN."""
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
        f"backward was started at {node.name or 'its output'} with a gradient that holds {bad_word(edge.grad)}",
        "check the tensor given as backward(gradient=...) or grad(grad_outputs=...)", (node.id,),
    )  # fmt: skip


def _origin(graph: BackwardPass, sent: _Sent, *, scaled: bool) -> Finding:
    node, edge = sent.node, sent.edges[0]
    mask = _mask(graph, sent)
    told = [f"{where(node)} received a finite gradient and sent on {bad_word(edge.grad)} ({_how_many(edge.grad)})"]
    element = element_sent(graph, edge)
    parts = (_place_of(graph, edge, element), backward_reason(node, graph, element))
    because = ": ".join(filter(None, parts))
    if because:
        told.append(f"There {because}" if element is None or element.value is not None else because.capitalize())
    if mask is not None:
        told.append(f"The element is masked later, at {where(mask)}, but 0 times an infinite derivative is NaN")
    later = _becomes_nan(graph, sent)
    if later is not None:
        told.append(f"From there on 0 times infinity makes NaN, first in {where(later)}")
    reached = any(leaf.kind == "leaf" and any(map(is_broken, leaf.grads)) for leaf in graph.nodes)
    if not reached:
        told.append("It does not get as far as a leaf, so nothing is lost yet")
    overflow = scaled and (edge.grad is None or edge.grad.dtype == "float16")
    return Finding(
        "nonfinite-origin",
        "info" if overflow or not reached else "error",
        ". ".join(told),
        EXPLOITED if overflow else _remedy(masked=mask is not None, remedy=op_of(node.op).remedy),
        (node.id, *dict.fromkeys(edge.target for edge in sent.edges)),
        node.source or node.library,
    )


def _remedy(*, masked: bool, remedy: str) -> str:
    if masked:
        more = f"; or {remedy}" if remedy else ""
        return f"mask the input, not the output: give the op a safe value where the mask is off{more}"
    return remedy or "clamp the input, or add eps where the derivative has no bound"


def _place_of(graph: BackwardPass, edge: Edge, element: Element | None) -> str:
    """Return which element of the input it was, its value and what arrived; where that is not known, the range."""
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
            if edge.grad is not None and edge.grad.zeros and op_of(source.op).masks and not _all_zero(source):
                return source
            seen.add(source.id)
            waiting.append(source)
    return None


def _all_zero(node: Node) -> bool:
    return all(is_zero(grad) for grad in node.grads)


def _arrived_zero(graph: BackwardPass, sent: _Sent) -> bool:
    """Tell whether the gradient that arrived was zero where the one sent on is broken."""
    element = element_sent(graph, sent.edges[0])
    if element is not None and element.arrived is not None:
        return element.arrived == 0
    arrived = next((grad for grad in sent.node.grads if grad is not None), None)
    return arrived is not None and bool(arrived.zeros)
