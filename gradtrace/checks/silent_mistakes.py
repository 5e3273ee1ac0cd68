"""Code that runs, and computes something else than was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.stats_queries import flat
from gradtrace.model import Finding
from gradtrace.wording.nodes import as_tuple, described, first_few, position, quoted
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Node, Source, TensorStats, Trace

__all__ = ["Accumulated", "broadcast", "grad_alias", "lost_second_order"]

ZERO = "call optimizer.zero_grad() (or set x.grad = None) before each backward(), or once every k passes on purpose"

ALIASES = {
    "zeroed": "reads the gradient of {name} by a second name after it was zeroed in place: both names are one tensor, "
    "so it reads zeros",
    "added": "reads the gradient of {name} by a second name after pass {index} added to it in place: both names are "
    "one tensor, so it reads the sum and no longer what it was when it got that name",
    "listed": "is given the gradient of {name} more than once: the entries are one tensor, which each backward adds to "
    "in place, so all of them are its latest value",
    "compared": "compares the gradient of {name} with itself: both names are one tensor, which pass {index} added to "
    "in place",
}


@check("broadcast")
def broadcast(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """A loss between (N, 1) and (N): broadcasting made N × N pairs of it."""
    outputs = [value for node in graph.nodes if node.kind == "output" for value in node.values]
    if any(value is None or value.shape not in {(), (1,)} for value in outputs):
        return
    for fact in graph.facts:
        if fact.kind == "broadcast":
            node, n = graph.by_id[fact.nodes[0]], _first(fact.data["result"])
            pairs = len(_list(fact.data["result"])) == 2  # noqa: PLR2004 - a table
            made = f"{n} × {n} pairs of them" if pairs else f"{as_tuple(fact.data['result'])} of them"
            left, right = as_tuple(fact.data["left"]), as_tuple(fact.data["right"])
            column = left if left.endswith("1)") else right
            yield Finding(
                "broadcast", "warning",
                f"{described(node)} took {left} and {right} and made {made}: each row is compared with "
                "each other row, not with its own",
                f"give both the same shape: squeeze(-1) the one of shape {column}, or unsqueeze(-1) the other",
                (node.id,), node.source or fact.source,
            )  # fmt: skip


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _first(value: object) -> object:
    return (_list(value) or [0])[0]


@check("accumulated", along=True)
class Accumulated:
    """A gradient was added to one that was used already: nobody zeroed ``.grad`` between the passes.

    With an optimizer, only a step on a gradient that an earlier step has used counts: adding up several
    passes before each step is done on purpose. Without one, only adding the same gradient again, or adding
    after the leaf itself was changed.
    """

    def __init__(self, _: Thresholds) -> None:
        self._last: dict[str, Node] = {}
        self._worst: dict[str, Finding] = {}

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Track the leaves; whether there is an optimizer is known at the end."""
        held = {node: fact for fact in graph.facts if fact.kind == "held" for node in fact.nodes}
        for leaf in (node for node in graph.nodes if node.kind == "leaf" and node.name):
            before, worst = self._last.get(leaf.name), self._worst.get(leaf.name)
            if leaf.id in held and before is not None and _suspicious(before, leaf):
                self._worst[leaf.name] = _sum(graph, leaf, int(str(held[leaf.id].data["passes"])), worst)
            if graph.kind == "backward":
                self._last[leaf.name] = leaf
        yield from ()

    def found(self, trace: Trace) -> Iterator[Finding]:
        """Yield the steps on a gradient that was used, or, without an optimizer, the sums."""
        yield from (_reused(fact) for fact in trace.facts if fact.kind == "reused")
        if not any(fact.kind == "optimizer" for fact in trace.facts):
            yield from _together(self._worst)


def _reused(fact: Fact) -> Finding:
    names = first_few(str(name) or "an unnamed one" for name in _list(fact.data["names"]))
    times = int(str(fact.data["times"]))
    if fact.data.get("closure") or fact.data.get("end"):
        who = (
            f"the closure of the step at {position(fact.source)}"
            if fact.data.get("closure")
            else "after the last step, backward()"
        )
        return Finding(
            "accumulated", "warning",
            f"{who} adds to gradients that were used already: .grad of {names} holds the sum of {fact.data['passes']} "
            "passes, because nothing zeroed it",
            ZERO, (), fact.source, int(str(fact.data["pass"])), times,
        )  # fmt: skip
    again = f" at the first time, and it did so {times:,} times" if times > 1 else ""
    return Finding(
        "accumulated", "warning",
        f"the step at {position(fact.source)} used a gradient that an earlier step had used already: .grad of {names} "
        f"held the sum of {fact.data['passes']} passes{again}, because nothing zeroed it",
        ZERO, (), fact.source, int(str(fact.data["pass"])), times,
    )  # fmt: skip


def _suspicious(before: Node, now: Node) -> bool:
    """Tell whether the leaf was changed since, or the same gradient arrived again."""
    return before.values != now.values or (any(now.grads) and before.grads == now.grads)


def _sum(graph: BackwardPass, leaf: Node, passes: int, known: Finding | None) -> Finding:
    grad = next((grad for grad in leaf.grads if grad is not None), None)
    same = _single(grad)
    sum_told = (
        f": {number(same * passes)} = {number(same)} × {passes} passes, if each sent the same"
        if same is not None
        else ""
    )
    return Finding(
        "accumulated", "warning",
        f".grad of {leaf.name} holds the sum of {passes} passes, because nothing zeroed it{sum_told}",
        ZERO, (leaf.id,) if known is None else known.nodes, graph.call if known is None else known.source,
        graph.index if known is None else known.pass_index, 1 if known is None else known.count + 1,
    )  # fmt: skip


def _together(worst: dict[str, Finding]) -> Iterator[Finding]:
    """Yield one finding for all leaves whose gradients the same line added up."""
    groups: dict[Source | None, list[str]] = {}
    for name, finding in worst.items():
        groups.setdefault(finding.source, []).append(name)
    for names in groups.values():
        first = min(
            (worst[name] for name in names), key=lambda finding: (": " not in finding.message, finding.pass_index)
        )
        others = f". The same goes for {first_few(n for n in names if worst[n] is not first)}" if len(names) > 1 else ""
        yield replace(first, message=first.message + others)


def _single(stats: TensorStats | None) -> float | None:
    values = flat(stats.values) if stats is not None and stats.values is not None else []
    return values[0] if len(values) == 1 else None


@check("grad-alias", whole=True)
def grad_alias(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A second name for a gradient, read after it was zeroed in place or added to by a later backward."""
    for fact in trace.facts:
        if fact.kind == "alias":
            how, index = str(fact.data.get("how", "zeroed")), int(str(fact.data.get("pass", 0)))
            told = ALIASES[how].format(name=fact.data["name"] or "a leaf", index=index)
            yield Finding(
                "grad-alias", "warning", f"{quoted(fact.source)} {told}",
                "keep a copy (x.grad.clone()), or start anew with x.grad = None in place of zero_()",
                (), fact.source, index,
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
            f"create_graph=True was asked for, but {described(node)} gave a gradient without a graph: {why} (a numpy "
            "call, .data, detach() or no_grad() in it does the same). Second derivatives through it are missing",
            "write its backward with differentiable torch ops on ctx.saved_tensors, without once_differentiable",
            (node.id,), node.source,
        )  # fmt: skip
