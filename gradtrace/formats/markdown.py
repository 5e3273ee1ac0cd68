"""A table and a Mermaid picture, for a README, an issue or a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.drawing.digraph import folded_for
from gradtrace.drawing.fold_wording import content, flow, names, opening_lines
from gradtrace.formats import mermaid
from gradtrace.formats.base import Style, register
from gradtrace.model import Report
from gradtrace.wording.numbers import stats
from gradtrace.wording.phrases import explained, positions, title
from gradtrace.wording.quoting import markdown_text, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.fold import Box, Folded

__all__ = ["render"]


@register("markdown", ".md")
def render(report: Report, style: Style) -> str:
    """A table and a Mermaid picture, for READMEs and issues."""
    return "\n".join(_lines(report, style)) + "\n"


def _lines(report: Report, style: Style) -> Iterator[str]:
    folded = folded_for(report, style)
    yield f"**{markdown_text(title(report))}**"
    yield ""
    for line in opening_lines(folded):
        yield f"{markdown_text(line)}  "
    yield ""
    yield "| op | expression and value | gradient that arrived | where |"
    yield "|---|---|---|---|"
    for box in folded.boxes:
        yield f"| {' | '.join(markdown_text(cell) for cell in _cells(box, folded))} |"
    yield ""
    yield from (f"- {finding.severity}: {markdown_text(finding.message)}" for finding in report.findings)
    yield ""
    yield "```mermaid"
    yield str(mermaid.render(report, style)).rstrip()
    yield "```"


def _cells(box: Box, folded: Folded) -> list[str]:
    node = folded.graph.by_id[box.nodes[0]]
    if box.kind not in {"node", "op"}:
        ends = [flow(box.summary.arrived, "in"), flow(box.summary.left, "out") if box.summary.left.tensors else ""]
        return [names(box, folded.graph)[0], content(box), "; ".join(filter(None, ends)), names(box, folded.graph)[1]]
    value = node.values[0] if node.values else None
    parts = (one_line(node.name), explained(node), stats(value) if value else "")
    grads = [
        f"{one_line(leaf.name) or 'leaf'} {_grad(leaf.grads)}"
        for leaf in map(folded.graph.by_id.__getitem__, box.leaves)
    ]
    where = " · ".join(filter(None, (one_line(node.module), positions(node))))
    return [
        node.op if node.kind == "function" else node.kind,
        " = ".join(filter(None, parts)),
        "; ".join([_grad(node.grads), *grads]),
        where,
    ]


def _grad(grads: tuple[object, ...]) -> str:
    return stats(grads[0] if grads else None)  # type: ignore[arg-type]
