"""A box in a few lines of plain text, for pictures whose boxes hold no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.drawing.fold_wording import content, counted_findings, curve_ends, flow, inside, names
from gradtrace.wording.numbers import stats
from gradtrace.wording.phrases import explained
from gradtrace.wording.quoting import one_line, shorten

if TYPE_CHECKING:
    from gradtrace.fold import Box, Folded
    from gradtrace.model import Node

__all__ = ["sentences"]

LONGEST = 44  # characters of a line
MOST_LEAVES = 4


def sentences(box: Box, folded: Folded) -> list[str]:
    """Return what a box says: what it is, what made it, its gradient, its leaves, its findings; never empty."""
    told = _node(folded.graph.by_id[box.nodes[0]]) if box.kind in {"node", "op"} else _fold(box, folded)
    leaves = [folded.graph.by_id[leaf] for leaf in box.leaves]
    some = [f"{_name(leaf)} grad {_grad(leaf)}" for leaf in leaves] if len(leaves) <= MOST_LEAVES else []
    more = [f"{len(leaves)} leaves"] if len(leaves) > MOST_LEAVES and box.kind in {"node", "op"} else []
    findings = [f"{severity}: {words}" for severity, words in counted_findings(box)]
    return [shorten(line, LONGEST) for line in [*told, *some, *more, *findings] if line] or ["node"]


def _fold(box: Box, folded: Folded) -> list[str]:
    curve = " → ".join(curve_ends(box)) if len(box.summary.curve) > 2 else ""  # noqa: PLR2004
    out = flow(box.summary.left, "out") if box.summary.left.tensors else ""
    title, what = names(box, folded.graph)
    along = f"along it {curve}" if curve else ""
    return [title, what, content(box), flow(box.summary.arrived, "in"), along, out, inside(box)]


def _node(node: Node) -> list[str]:
    value = node.values[0] if node.values else None
    equation = " = ".join(
        part for part in (one_line(node.name), explained(node), stats(value) if value else "") if part
    )
    return [
        node.op if node.kind == "function" else "",
        equation or ("" if node.kind == "function" else node.kind),
        f"grad {_grad(node)}",
    ]


def _name(leaf: Node) -> str:
    return one_line(leaf.name) or "leaf"


def _grad(node: Node) -> str:
    return stats(node.grads[0] if node.grads else None)
