"""Code that runs, and computes something else than was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.reading import flat, place, say, shown, some, where
from gradtrace.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Node, TensorStats, Trace

__all__ = ["accumulated", "broadcast", "grad_alias", "lost_second_order"]

ZERO = "call optimizer.zero_grad() (or set x.grad = None) before each backward(), or once every k passes on purpose"


@check("broadcast")
def broadcast(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """A loss between (N, 1) and (N): broadcasting made N × N pairs of it."""
    outputs = [value for node in graph.nodes if node.kind == "output" for value in node.values]
    if any(value is None or value.shape not in {(), (1,)} for value in outputs):
        return
    for fact in graph.facts:
        if fact.kind == "broadcast":
            node, n = graph.by_id[fact.nodes[0]], _first(fact.data["result"])
            left, right = shown(fact.data["left"]), shown(fact.data["right"])
            yield Finding(
                "broadcast", "warning",
                f"{where(node)} took {left} and {right} and made {n} × {n} pairs of them: each row is compared with "
                "each other row, not with its own",
                f"give both the same shape: squeeze(-1) the one of shape ({n}, 1), or unsqueeze(-1) the other",
                (node.id,), node.source or fact.source,
            )  # fmt: skip


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _first(value: object) -> object:
    return (_list(value) or [0])[0]


@check("accumulated", whole=True)
def accumulated(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A gradient was added to one that was used already: nobody zeroed ``.grad`` between the passes.

    With an optimizer, only a step on a gradient that an earlier step has used counts: adding up several
    passes before each step is done on purpose. Without one, only adding the same gradient again, or adding
    after the leaf itself was changed.
    """
    for fact in trace.facts:
        if fact.kind == "reused":
            yield _reused(fact)
    if not any(fact.kind == "optimizer" for fact in trace.facts):
        yield from _added(trace)


def _reused(fact: Fact) -> Finding:
    names = some(str(name) or "an unnamed one" for name in _list(fact.data["names"]))
    times = int(str(fact.data["times"]))
    again = f" at the first time, and it did so {times:,} times" if times > 1 else ""
    return Finding(
        "accumulated", "warning",
        f"the step at {place(fact.source)} used a gradient that an earlier step had used already: .grad of {names} "
        f"held the sum of {fact.data['passes']} passes{again}, because nothing zeroed it",
        ZERO, (), fact.source, int(str(fact.data["pass"])), times,
    )  # fmt: skip


def _added(trace: Trace) -> Iterator[Finding]:
    last: dict[str, tuple[BackwardPass, Node]] = {}
    worst: dict[str, Finding] = {}
    for graph in trace.passes:
        held = {node: fact for fact in graph.facts if fact.kind == "held" for node in fact.nodes}
        for leaf in (node for node in graph.nodes if node.kind == "leaf" and node.name):
            if leaf.id in held and leaf.name in last and _suspicious(last[leaf.name][1], leaf):
                worst[leaf.name] = _sum(graph, leaf, int(str(held[leaf.id].data["passes"])), worst.get(leaf.name))
            if graph.kind == "backward":
                last[leaf.name] = graph, leaf
    yield from worst.values()


def _suspicious(before: Node, now: Node) -> bool:
    """Tell whether the leaf was changed since, or the same gradient came again."""
    return before.values != now.values or (any(now.grads) and before.grads == now.grads)


def _sum(graph: BackwardPass, leaf: Node, passes: int, known: Finding | None) -> Finding:
    grad = next((grad for grad in leaf.grads if grad is not None), None)
    same = _single(grad)
    sum_told = (
        f": {say(same * passes)} = {say(same)} × {passes} passes, if each sent the same" if same is not None else ""
    )
    return Finding(
        "accumulated", "warning",
        f".grad of {leaf.name} holds the sum of {passes} passes, because nothing zeroed it{sum_told}",
        ZERO, (leaf.id,) if known is None else known.nodes, graph.call if known is None else known.source,
        graph.index if known is None else known.pass_index, 1 if known is None else known.count + 1,
    )  # fmt: skip


def _single(stats: TensorStats | None) -> float | None:
    values = flat(stats.values) if stats is not None and stats.values is not None else []
    return values[0] if len(values) == 1 else None


@check("grad-alias", whole=True)
def grad_alias(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A second name for a gradient, read after the gradient was zeroed: it reads the zeros."""
    for fact in trace.facts:
        if fact.kind == "alias":
            name = fact.data["name"] or "a leaf"
            text = f"`{' '.join(fact.source.text.split())[:80]}` ({place(fact.source)})" if fact.source else "a line"
            yield Finding(
                "grad-alias", "warning",
                f"{text} reads the gradient of {name} by a second name after it was zeroed in place: both names "
                "are one tensor, so it reads zeros",
                "keep a copy (x.grad.clone()), or start anew with x.grad = None in place of zero_()",
                (), fact.source,
            )  # fmt: skip


@check("lost-second-order")
def lost_second_order(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """``create_graph=True``, but a custom Function's backward left no graph to differentiate again."""
    for fact in graph.facts:
        if fact.kind != "no-second-order":
            continue
        node = graph.by_id[fact.nodes[0]]
        once = fact.data.get("once_differentiable")
        why = "its backward is marked once_differentiable" if once else "its backward computed without autograd"
        yield Finding(
            "lost-second-order", "warning",
            f"create_graph=True was asked for, but {where(node)} gave a gradient without a graph: {why} (a numpy call, "
            ".data, detach() or no_grad() in it does the same). Second derivatives through it are missing",
            "write its backward with differentiable torch ops on ctx.saved_tensors, without once_differentiable",
            (node.id,), node.source,
        )  # fmt: skip
