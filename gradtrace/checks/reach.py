"""Parameters that no gradient reaches, or only zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.paths import topological
from gradtrace.checks.reading import base, is_broken, is_zero, place, some, where
from gradtrace.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Edge, Fact, Node, Trace

__all__ = ["detached", "unreached_leaf", "zero_gradient"]

WAYS = {
    "no_grad": "was computed under torch.no_grad()",
    "detach": "was detached",
    "data": "was taken from .data",
    "argmax": "went through argmax, which has no derivative",
}
REASONS = {
    "Relu": "all its inputs were negative: a dead ReLU",
    "Clamp": "all its inputs were outside the limits of the clamp", "ClampMin": "all its inputs were below the limit",
    "ClampMax": "all its inputs were above the limit", "Round": "rounding has a derivative of zero everywhere",
    "Floor": "floor has a derivative of zero everywhere", "Ceil": "ceil has a derivative of zero everywhere",
    "Sign": "sign has a derivative of zero everywhere", "Trunc": "trunc has a derivative of zero everywhere",
    "Sigmoid": "it is saturated: its output is 0 or 1 to the last bit", "Tanh": "it is saturated: its output is ±1",
    "Softmax": "it is saturated: one of its outputs is 1", "Hardtanh": "all its inputs were outside its limits",
    "Threshold": "all its inputs were below the threshold", "Heaviside": "a step has a derivative of zero",
    "Hardsigmoid": "all its inputs were outside [-3, 3]",
}  # fmt: skip
REMEDIES = {
    "Relu": "lower the learning rate, check the bias and the scale of the input, or use LeakyReLU or GELU",
    "Round": "use a straight-through estimator: x + (x.round() - x).detach()",
}


@check("unreached-leaf", whole=True)
def unreached_leaf(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Parameters that require grad and got none in any pass: never used, or cut off from the loss."""
    for fact in trace.facts:
        if fact.kind == "unreached":
            yield _unreached(fact)
    for graph in trace.passes:
        if graph.kind == "backward" and graph.error is None:
            yield from _dropped(graph)


def _unreached(fact: Fact) -> Finding:
    names = fact.data["names"]
    listed = some(str(name) or "an unnamed one" for name in names) if isinstance(names, list) else ""
    if fact.data["used"]:
        told, hint = (
            "was used in the forward, but the loss does not depend on what came of it",
            (
                "check that the result goes into the loss, and that nothing on the way detaches it (.detach(), .data, "
                ".item(), torch.tensor(...), no_grad())"
            ),
        )
    else:
        told, hint = (
            "was never used in the forward",
            ("call the module that owns it in forward(), take it out of the optimizer, or set requires_grad_(False)"),
        )
    return Finding("unreached-leaf", "warning", f"{listed}: got no gradient in any pass; it {told}", hint)


def _dropped(graph: BackwardPass) -> Iterator[Finding]:
    """Yield the leaves to which an op that ran sent no gradient at all, though nothing else reached them."""
    for leaf in graph.nodes:
        if leaf.kind != "leaf" or any(grad is not None for grad in leaf.grads):
            continue
        senders = [graph.by_id[edge.source] for edge in graph.edges_into[leaf.id]]
        ran = [node for node in senders if node.order is not None and any(g is not None for g in node.grads)]
        if ran and len(ran) == len(senders):
            yield Finding(
                "unreached-leaf", "warning",
                f"{leaf.name or 'a leaf'} got no gradient: {where(ran[0])} used it and returned None for it",
                "return its gradient from the backward of that Function", (leaf.id, ran[0].id), ran[0].source,
                graph.index,
            )  # fmt: skip


@check("detached", whole=True)
def detached(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A parameter's only way to the loss was cut by detach, .data, no_grad or an op without a derivative."""
    for fact in trace.facts:
        if fact.kind != "detached":
            continue
        names, how = fact.data["names"], str(fact.data["how"])
        text = f"`{' '.join(fact.source.text.split())[:80]}` ({place(fact.source)})" if fact.source else "a value"
        way = WAYS.get(how, f"went through {how}, which has no derivative")
        listed = some(map(str, names)) if isinstance(names, list) else ""
        yield Finding(
            "detached", "warning",
            f"the result of {text} {way} and went on into the loss. It is the only way from there to {listed}, "
            "which got no gradient in any pass",
            "take the cut out if these should learn; else set requires_grad_(False) or take them out of the optimizer",
            (), fact.source, int(str(fact.data["pass"])),
        )  # fmt: skip


@check("zero-gradient", whole=True)
def zero_gradient(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A leaf whose gradient was exactly zero in every pass that reached it, and the op where it died.

    Only an op that is flat where it was used is to blame. A product with zeros is not: the zeros may be a
    state's first value, or the half of LoRA that starts at zero. Nor is a loss that is exactly zero.
    """
    alive = {node.name for graph in trace.passes for node in graph.nodes if node.kind == "leaf" and _is_alive(node)}
    for graph in trace.passes:
        if graph.error is not None or not _is_sound(graph):
            continue
        for leaf in graph.nodes:
            if leaf.kind == "leaf" and any(map(is_zero, leaf.grads)) and (leaf.name not in alive or not leaf.name):
                yield from _death(graph, leaf)


def _is_alive(node: Node) -> bool:
    return any(grad is not None and not is_zero(grad) for grad in node.grads)


def _is_sound(graph: BackwardPass) -> bool:
    """Tell whether there is a loss, it and the gradients are finite, and it is not zero already."""
    outputs = [node for node in graph.nodes if node.kind == "output"]
    if any(
        is_broken(stats) for node in graph.nodes for stats in (*node.grads, *node.values) if node.kind != "function"
    ):
        return False
    seeded = any(grad is not None and not is_zero(grad) for node in outputs for grad in node.grads)
    return seeded and not all(is_zero(value) for node in outputs for value in node.values)


def _death(graph: BackwardPass, leaf: Node) -> Iterator[Finding]:
    above = _above(graph, leaf)
    killer = next((node for node in topological(graph) if node.id in above and _kills(graph, node, above)), None)
    if killer is None or base(killer.op) not in REASONS:
        return
    name = leaf.name or "a leaf"
    yield Finding(
        "zero-gradient", "warning",
        f"the gradient died in {where(killer)}: {REASONS[base(killer.op)]}. What arrived was not zero, all that went "
        f"on to {name} is",
        REMEDIES.get(base(killer.op), "check the range of its input, or take something that has a slope there"),
        (killer.id, leaf.id), killer.source or killer.library, graph.index,
    )  # fmt: skip


def _above(graph: BackwardPass, leaf: Node) -> set[str]:
    """Return the nodes from which the leaf can be reached."""
    found, waiting = {leaf.id}, [leaf.id]
    for node_id in waiting:
        fresh = [e.source for e in graph.edges_into[node_id] if e.source not in found]
        found.update(fresh)
        waiting += dict.fromkeys(fresh)
    return found


def _kills(graph: BackwardPass, node: Node, above: set[str]) -> bool:
    """Tell whether a gradient that was not zero arrived and only zeros went on towards the leaf."""
    if node.kind != "function" or not _is_alive(node):
        return False
    sent: list[Edge] = [edge for edge in graph.edges_from[node.id] if edge.target in above]
    return bool(sent) and all(is_zero(edge.grad) for edge in sent)
