"""Graphs that live longer than their pass, and memory that was changed where backward does not see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.model import Finding
from gradtrace.wording.nodes import described, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Source, Trace

__all__ = ["GraphKept", "changed_unseen"]

GROWN = 5  # passes in a row, each of which runs more old nodes than the one before
ITEM = "add loss.item() or loss.detach(): a plain number keeps no graph"
DETACH = "detach() what goes from one pass to the next (h = h.detach()), and leave out retain_graph=True"
KEPT = {
    "sum": "adds losses with their graphs to one sum, in pass after pass, and no backward runs from it: the graphs of "
    "{passes} passes stay in memory, the last one of {nodes:,} nodes",
    "list": "was called on losses that live on with their graphs, {passes} of them at once, the last of {nodes:,} "
    "nodes",
}


class _Growth:
    """Passes from one line: the count of old nodes of the latest ones, as long as it grew."""

    def __init__(self) -> None:
        self.older: list[int] = []


@check("graph-kept", along=True)
class GraphKept:
    """Graphs that are kept from pass to pass: a sum or a list of losses, or passes that run ever more old nodes."""

    def __init__(self, _: Thresholds) -> None:
        self._growth: dict[Source | None, _Growth] = {}

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Yield the call whose passes grow by the graphs of earlier ones, after some repetitions."""
        older = next((fact for fact in graph.facts if fact.kind == "older-nodes"), None)
        growth = self._growth.setdefault(graph.call, _Growth())
        count = 0 if older is None else int(str(older.data["count"]))
        if growth.older and count <= growth.older[-1]:
            growth.older.clear()
        growth.older.append(count)
        if len(growth.older) == GROWN + 1 and older is not None:
            grown = " → ".join(f"{number:,}" for number in growth.older)
            yield Finding(
                "graph-kept", "warning",
                f"each pass from {quoted(graph.call)} runs the nodes of the passes before it again, and more of them "
                f"each time: {grown} old nodes, of {older.data['of']} in all",
                DETACH, (), graph.call, graph.index,
            )  # fmt: skip

    def found(self, trace: Trace) -> Iterator[Finding]:
        """Yield the lines that keep the graphs of many passes."""
        for fact in trace.facts:
            if fact.kind == "graph-kept":
                passes, nodes = int(str(fact.data["passes"])), int(str(fact.data["nodes"]))
                told = KEPT.get(str(fact.data["how"]), "keeps graphs").format(passes=passes, nodes=nodes)
                yield Finding("graph-kept", "info", f"{quoted(fact.source)} {told}", ITEM, (), fact.source)


@check("changed-unseen")
def changed_unseen(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """What backward had saved was changed through ``.data``, which hides that from PyTorch: the gradient is wrong."""
    for fact in graph.facts:
        if fact.kind == "changed-unseen" and fact.nodes:
            node = graph.by_id[fact.nodes[0]]
            yield Finding(
                "changed-unseen", "error",
                f"{described(node)} saved a tensor for backward, and {quoted(fact.source)} changed it in place through "
                ".data, which PyTorch does not see: it computed the gradient with the new values, and raised no error",
                "change it after backward(), under torch.no_grad() and without .data: then PyTorch sees one that is "
                "too early",
                (node.id,), fact.source,
            )  # fmt: skip
