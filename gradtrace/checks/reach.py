"""Parameters that no gradient reaches, or only zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.how_detached import EXITS, way
from gradtrace.model import Finding
from gradtrace.wording.nodes import quoted, some, where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Trace

__all__ = ["UnreachedLeaf", "detached"]

NEVER_USED = "call the module that owns it in forward(), take it out of the optimizer, or set requires_grad_(False)"
CUT_OFF = (
    "check that the result goes into the loss, and that nothing on the way detaches it (.detach(), .data, .item(), "
    "torch.tensor(...), no_grad())"
)
LEFT = (
    "let the tensor itself go into the loss, and keep plain numbers for printing; if none of these should learn, set "
    "requires_grad_(False)"
)


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
        yield from (_unreached(fact) for fact in trace.facts if fact.kind == "unreached")


def _unreached(fact: Fact) -> Finding:
    names = fact.data["names"]
    listed = some(str(name) or "an unnamed one" for name in names) if isinstance(names, list) else ""
    it, was = ("they", "were") if isinstance(names, list) and len(names) > 1 else ("it", "was")
    told, hint = f"{it} {was} never used in the forward", NEVER_USED
    if fact.data["used"]:
        told, hint = f"{it} {was} used in the forward, but the loss does not depend on what came of it", CUT_OFF
    how = str(fact.data.get("how") or "")
    if how in EXITS:
        told = f"{it} {was} used in the forward, but {quoted(fact.source)} {way(how)}. No gradient comes back through "
        told, hint = f"{told}what Python computes from there on, even if that went into the loss", LEFT
    elif how:
        told += f". What came of it was last seen in {quoted(fact.source)}, where it {way(how)}"
    return Finding("unreached-leaf", "warning", f"{listed}: got no gradient in any pass; {told}", hint, (), fact.source)


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
        names, how = fact.data["names"], way(str(fact.data["how"]))
        listed = some(map(str, names)) if isinstance(names, list) else ""
        told = f"the result of {quoted(fact.source)} {how} and went on into the loss. "
        told += f"It is the only way from there to {listed}, which got no gradient in any pass"
        hint = (
            "take the cut out if these should learn; else set requires_grad_(False) or take them out of the optimizer"
        )
        if not listed:
            told = f"{quoted(fact.source)} {how}. What was computed from them was added to the loss and trains nothing"
            hint = "pass create_graph=True there, so that the penalty has a graph; or leave the term out of the loss"
        yield Finding("detached", "warning", told, hint, (), fact.source, int(str(fact.data["pass"])))
