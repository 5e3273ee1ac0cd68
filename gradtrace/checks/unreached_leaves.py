"""Parameters that no gradient reaches, or only zeros."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, cast

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.how_detached import EXITS, way
from gradtrace.model import Finding
from gradtrace.wording.nodes import as_tuple, described, first_few, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Severity, Trace

__all__ = ["UnreachedLeaf", "detached", "not_a_leaf"]

NEVER_USED = "call the module that owns it in forward(), take it out of the optimizer, or set requires_grad_(False)"
CUT_OFF = (
    "check that the result goes into the loss, and that nothing on the way detaches it (.detach(), .data, .item(), "
    "torch.tensor(...), no_grad())"
)
LEFT = (
    "let the tensor itself go into the loss, and keep plain numbers for printing; if none of these should learn, set "
    "requires_grad_(False)"
)


FIXED = (
    "if they are a fixed teacher or target, set requires_grad_(False) or leave them out of the optimizer; if they "
    "should learn, run them without no_grad()"
)
TAKE_OUT = "take the cut out if these should learn; else set requires_grad_(False) or take them out of the optimizer"
INSTEAD = {
    "Parameter": "use the computed tensor itself: F.linear(x, weight), or torch.func.functional_call(module, {name: "
    "tensor}, x)",
    "tensor": "torch.stack(losses) or torch.cat() keep the graph; torch.tensor() takes plain values",
    "data=": "use the computed tensor itself in the forward, or torch.func.functional_call(module, {name: tensor}, x)",
}


@check("unreached-leaf", along=True)
class UnreachedLeaf:
    """Parameters that require grad and got none in any pass: never used, or cut off from the loss."""

    def __init__(self, _: Thresholds) -> None:
        pass

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Yield the leaves to which an op that ran sent no gradient at all."""
        if graph.kind == "backward" and graph.error is None:
            yield from _dropped(graph)

    def found(self, trace: Trace) -> Iterator[Finding]:
        """Yield the parameters that no pass reached."""
        facts = [fact for fact in trace.facts if fact.kind == "unreached" and not fact.data.get("replaced")]
        yield from map(_unreached, facts)  # replaced parameters are reported by trained-by-nobody


def _unreached(fact: Fact) -> Finding:
    names = _list(fact.data["names"])
    listed, (it, was) = _listed(names), ("they", "were") if len(names) > 1 else ("it", "was")
    told, hint = f"{it} {was} never used in the forward", NEVER_USED
    if fact.data["used"]:
        told, hint = f"{it} {was} used in the forward, but the loss does not depend on what came of it", CUT_OFF
    how = str(fact.data.get("how") or "")
    if how in EXITS:
        told = f"{it} {was} used in the forward, but {quoted(fact.source)} {way(how)}. No gradient comes back through "
        told, hint = f"{told}what Python computes from there on, even if that went into the loss", LEFT
    elif how:
        told += f". What came of it was last seen in {quoted(fact.source)}, where it {way(how)}"
    if fact.data.get("idle"):
        told, hint = f"{told}. All that used {it.replace('they', 'them')} ran without a graph", FIXED
    severity: Severity = "info" if fact.data.get("idle") else "warning"
    return Finding("unreached-leaf", severity, f"{listed}: got no gradient in any pass; {told}", hint, (), fact.source)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _listed(names: list[object]) -> str:
    """Return names, and shapes for tensors without a name.

    >>> _listed(["net.weight", [3, 4], [3]])
    'net.weight and 2 tensors without a name, (3, 4) and (3,)'
    """
    named = [str(name) for name in names if name and not isinstance(name, list)]
    shapes = [as_tuple(name) for name in names if isinstance(name, list)]
    many = f"{len(shapes)} tensors" if len(shapes) > 1 else "a tensor"
    unnamed = f"{many} without a name, {' and '.join(shapes)}" if shapes else ""
    return " and ".join(filter(None, (first_few(named), unnamed))) or "one without a name"


def _dropped(graph: BackwardPass) -> Iterator[Finding]:
    """Yield the leaves to which an op that ran sent no gradient at all, though nothing else reached them."""
    for leaf in graph.nodes:
        if leaf.kind != "leaf" or any(grad is not None for grad in leaf.grads):
            continue
        senders = [graph.by_id[edge.source] for edge in graph.edges_into[leaf.id]]
        ran = [node for node in senders if node.order is not None and any(g is not None for g in node.grads)]
        # Expanded weights of torch.func put the gradients of each sample into .grad_sample instead.
        if ran and len(ran) == len(senders) and "PerSampleGrad" not in ran[0].op:
            yield Finding(
                "unreached-leaf", "warning",
                f"{leaf.name or 'a leaf'} got no gradient: {described(ran[0])} used it and returned None for it",
                "return its gradient from the backward of that Function", (leaf.id, ran[0].id), ran[0].source,
                graph.index,
            )  # fmt: skip


@check("detached", whole=True)
def detached(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A parameter's only way to the loss was cut by detach, .data, no_grad or an op without a derivative."""
    yield from (_detached(fact) for fact in trace.facts if fact.kind == "detached")


def _detached(fact: Fact) -> Finding:
    names, how = _list(fact.data["names"]), str(fact.data["how"])
    comma = "," if ", which" in way(how) else ""
    told = f"the result of {quoted(fact.source)} {way(how)}{comma} and went on into the loss. "
    told += f"It is the only way from there to {_listed(names)}, which got no gradient in any pass"
    hint, severity = INSTEAD.get(how, TAKE_OUT), "warning"
    if not names:
        told = f"{quoted(fact.source)} {way(how)}. What was computed from it was added to the loss and trains nothing"
        hint = "pass create_graph=True there, so that the penalty has a graph; or leave the term out of the loss"
        if how not in {"grad", "lost-grad"}:
            hint, severity = (
                "let it keep its graph, or leave the term out of the loss: it only changes its size",
                "info",
            )
    if fact.data.get("maybe"):
        told, severity = f"{told}. If these are meant to be fixed, nothing is wrong", "info"
    if fact.data.get("idle"):
        told, hint, severity = f"{told}: all that used them ran without a graph", FIXED, "info"
    index = int(str(fact.data["pass"]))
    return Finding("detached", cast("Severity", severity), told, hint, (), fact.source, index)


@check("not-a-leaf", whole=True)
def not_a_leaf(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """A ``.grad`` that is None because the tensor is no leaf: the line that read it, and where it stopped being one."""
    for fact in trace.facts:
        if fact.kind != "not-a-leaf":
            continue
        name = str(fact.data["text"]).removesuffix(".grad")
        at = f"{PurePath(str(fact.data['file'])).name}:{fact.data['line']}"
        yield Finding(
            "not-a-leaf", "warning",
            f"{name}.grad is None at {at}, because {name} is no leaf: {quoted(fact.source)} computed it, and "
            "backward() keeps the gradients of leaves alone",
            f"make it a leaf after that line ({name} = {name}.detach().requires_grad_()), change a leaf in place under "
            f"torch.no_grad() ({name} -= lr * {name}.grad), or call {name}.retain_grad() before backward()",
            (), fact.source,
        )  # fmt: skip
