"""Births of NaN and infinity in the forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.nonfinite.births import FINITE, SMALLER, WIDER, birth_found, overflow_swallowed
from gradtrace.checks.nonfinite.broken_element import element_computed, input_name
from gradtrace.checks.stats_queries import inputs, is_broken, size
from gradtrace.model import Finding
from gradtrace.ops import op_name, op_of
from gradtrace.singularities import SMOOTHER, overflow, value_at
from gradtrace.wording.nodes import as_tuple, described, how_many, nonfinite_word, quoted
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Edge, Fact, Node, TensorStats

__all__ = ["nonfinite_forward"]

MANY = 3  # births reported for one pass
READ = "check the input data: torch.isfinite(x).all() before the model, and how missing values are encoded"
WRITTEN = (
    "leave out or replace what is not finite before the loss: torch.where(valid, x, 0.) on the input, or select the "
    "valid rows; an infinite mask must stand right before a softmax"
)


@check("nonfinite-forward", carried=("nonfinite-forward", "nonfinite-origin"), stories=(SMALLER, WIDER))
def nonfinite_forward(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """The forward op whose inputs were finite and whose output, on its way to the loss, was not.

    Only what reached an output counts: a mask of -inf before a softmax, or a broken element that was
    replaced later, is no fault of the forward. Where calls were not followed (on other devices, in compiled
    regions) the statistics of the nodes tell.
    """
    facts = [fact for fact in graph.facts if fact.kind == "nonfinite"]
    found = list(_from_facts(graph, facts)) or list(_from_statistics(graph)) or list(_unexplained(graph))
    yield from found[:MANY]
    if not found:
        yield from (overflow_swallowed(graph, fact) for fact in graph.facts if fact.kind == "swallowed")


def _from_facts(graph: BackwardPass, facts: list[Fact]) -> Iterator[Finding]:
    """Yield the births; if there is none, the values that were not finite from the start."""
    kinds = {kind: [fact for fact in facts if fact.data["kind"] == kind] for kind in ("born", "leaf", "given", "data")}
    if kinds["born"]:
        yield from (birth_found(graph, fact) for fact in kinds["born"])
    elif any(fact.nodes for fact in kinds["leaf"]):
        yield from (_broken_leaf(graph.by_id[f.nodes[0]], f) for f in kinds["leaf"] if f.nodes)
    else:
        yield from (_broken_data(graph, fact) for fact in (*kinds["given"], *kinds["data"]))


def _unexplained(graph: BackwardPass) -> Iterator[Finding]:
    """Yield values that are not finite without a recorded cause, so that none is left out."""
    for node in graph.nodes:
        if node.kind == "output" and any(map(is_broken, node.values)):
            yield Finding(
                "nonfinite-forward", "error",
                f"{node.name or 'the output'} is {nonfinite_word(_worst(node))}, and no op was seen that made it so",
                "look at what it is computed from: torch.isfinite(x).all() on each part, from the last one back",
                (node.id,), graph.call,
            )  # fmt: skip


def _from_statistics(graph: BackwardPass) -> Iterator[Finding]:
    """Yield the ops whose inputs were measured as finite and whose output was not."""
    for node in _reaching(graph):
        if node.kind == "leaf":
            yield _broken_leaf(node)
            continue
        before = [stats for _, stats in inputs(graph, node)]
        kinds = [kind for kind in ("nan", "inf") if _count(node.values, kind) and not _count(before, kind)]
        if not kinds or not _is_known(graph, node) or (kinds == ["inf"] and op_of(node.op).writes and any(before)):
            continue
        if not any(map(is_broken, before)) or ("nan" in kinds and not _inf_is_birth(graph, node)):
            yield _birth(graph, node)


def _is_known(graph: BackwardPass, node: Node) -> bool:
    """Tell whether all inputs of an op were measured: others need not be finite."""
    return all(stats is not None and not stats.note for _, stats in inputs(graph, node))


def _reaching(graph: BackwardPass) -> Iterator[Node]:
    """Yield the nodes with a non-finite forward value and a path of broken values to an output."""
    waiting = [node for node in graph.nodes if node.kind == "output" and any(map(is_broken, node.values))]
    seen = {node.id for node in waiting}
    while waiting:
        node = waiting.pop()
        for edge, stats in inputs(graph, node):
            target = graph.by_id[edge.target]
            # Nodes without a recorded forward value (inside a composite op) are passed through.
            unknown = stats is None and target.kind == "function"
            if target.id not in seen and (is_broken(stats) or unknown):
                seen.add(target.id)
                waiting.append(target)
    yield from (n for n in graph.nodes if n.id in seen and n.kind != "output" and any(map(is_broken, n.values)))


def _count(tensors: tuple[TensorStats | None, ...] | list[TensorStats | None], kind: str) -> int:
    return sum(getattr(stats, kind) for stats in tensors if stats is not None)


def _inf_is_birth(graph: BackwardPass, node: Node) -> bool:
    """Tell whether the infinities of the inputs were born in an op, which then is the cause."""
    return any(
        is_broken(stats) and not op_of(graph.by_id[edge.target].op).writes for edge, stats in inputs(graph, node)
    )


def _broken_leaf(node: Node, fact: Fact | None = None) -> Finding:
    value = node.values[0]
    what = (
        f"{nonfinite_word(value)} ({how_many(value)})"
        if is_broken(value)
        else str(fact.data["what"] if fact else "NaN")
    )
    how = f". That was written by {quoted(fact.source)}" if fact is not None and fact.source is not None else ""
    return Finding(
        "nonfinite-forward", "error",
        f"{node.name or 'a leaf'} itself holds {what} before the forward starts, and the loss with it{how}",
        "check where it was loaded or initialised, and whether an earlier step wrote a non-finite update into it",
        (node.id,),
    )  # fmt: skip


def _broken_data(graph: BackwardPass, fact: Fact) -> Finding:
    """Return the finding of a tensor that was not finite when the script passed it to an op."""
    node = graph.by_id[fact.nodes[0]] if fact.nodes else None
    source = fact.source if node is None else node.source or node.library
    what, data = fact.data["what"], fact.data["kind"] == "data"
    if node is None and not data:
        told = f"{quoted(fact.source)} writes {what}, and that has reached the output"
        return Finding("nonfinite-forward", "error", told, WRITTEN, (), fact.source)
    who = described(node) if node is not None else "the output"
    made = f"written by {quoted(fact.source)}" if fact.source != source else "that it writes itself"
    if data:
        made = f"of shape {as_tuple(fact.data['shape'])}, which no call of the script computed"
    return Finding(
        "nonfinite-forward", "error",
        f"{who} was given data that is not finite ({what}, {made}), and the loss is not finite with it",
        READ if data else WRITTEN, (node.id,) if node is not None else (), source,
    )  # fmt: skip


def _birth(graph: BackwardPass, node: Node) -> Finding:
    output = _worst(node)
    facts = [_input_fact(graph, node, edge, stats) for edge, stats in inputs(graph, node) if stats is not None]
    told = "; ".join(dict.fromkeys(fact for fact in facts if fact))
    came_in = "infinities" if any(is_broken(stats) for _, stats in inputs(graph, node)) else "finite inputs"
    said, remedy = _proven(graph, node)
    made = f"{described(node)} turned {came_in} into {nonfinite_word(output)} ({how_many(output)})"
    return Finding(
        "nonfinite-forward", "error", ": ".join(filter(None, (made, told, said))),
        remedy or FINITE, (node.id,), node.source or node.library,
    )  # fmt: skip


def _proven(graph: BackwardPass, node: Node) -> tuple[str, str]:
    """Return why a small tensor of one input is not finite, and the remedy."""
    came_in = [stats for _, stats in inputs(graph, node)]
    output = _worst(node)
    element = element_computed(came_in[0], output) if len(came_in) == 1 and came_in[0] is not None else None
    if element is None or not isinstance(element.value, float) or output is None:
        return "", ""
    function = op_name(node.op).lower().strip("_")
    point = value_at(function, [element.value])
    beyond = overflow(function, [element.value], output.dtype)
    return (point.said, point.remedy) if point is not None else (beyond, SMOOTHER.get(function, ""))


def _input_fact(graph: BackwardPass, node: Node, edge: Edge, stats: TensorStats) -> str:
    """Return the input element, or the range of the input."""
    name = input_name(graph.by_id[edge.target])
    element = element_computed(stats, _worst(node))
    if element is not None and isinstance(element.value, float):
        return f"{name}{element.place} is {number(element.value)}"
    if not size(stats):
        return f"{name} is empty, of shape {as_tuple(stats.shape)}"
    at = f", first at element {element.place}" if element is not None and element.place else ""
    return f"{name} is in [{number(stats.min)}, {number(stats.max)}]{at}" if stats.min is not None else ""


def _worst(node: Node) -> TensorStats | None:
    return next((stats for stats in node.values if is_broken(stats)), None)
