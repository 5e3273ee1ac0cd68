"""The picture as Mermaid, to paste into Markdown; GitHub draws it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.drawing.digraph import folded_for
from gradtrace.drawing.fold_wording import opening_lines
from gradtrace.drawing.palette import BORDER, FILL, INK, SPECIAL, step
from gradtrace.drawing.plain_boxes import sentences
from gradtrace.fold.folding import fold
from gradtrace.fold.gradient_summary import joined
from gradtrace.formats.base import Style, register
from gradtrace.model import Report
from gradtrace.wording.numbers import Scale, kind, number
from gradtrace.wording.phrases import title
from gradtrace.wording.quoting import mermaid_comment, mermaid_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.drawing.theme import Theme
    from gradtrace.fold import Box, Folded, Link
    from gradtrace.model import TensorStats

__all__ = ["render"]

# Mermaid's own limits, which a diagram can't raise.
MOST_EDGES, MOST_CHARACTERS = 500, 50_000


@register("mermaid", ".mmd", ".mermaid")
def render(report: Report, style: Style) -> str:
    """Mermaid flowchart, to paste into Markdown."""
    view = replace(style.view, full=False)
    folded = folded_for(report, replace(style, view=view))
    while True:
        text = "\n".join(_dressed(line, style.theme) for line in _lines(report, folded)) + "\n"
        if (len(folded.links) <= MOST_EDGES and len(text) <= MOST_CHARACTERS) or len(folded.boxes) <= 1:
            return text
        view = replace(view, max_nodes=max(1, len(folded.boxes) * 2 // 3), depth=None, open=())
        folded = fold(report.graph, view, report.findings)


def _lines(report: Report, folded: Folded) -> Iterator[str]:
    scale = Scale.of(report.graph)
    yield "flowchart TD"
    yield from (f"  %% {mermaid_comment(line)}" for line in [title(report), *opening_lines(folded)])
    ids = {box.id: f"b{at}" for at, box in enumerate(folded.boxes)}
    for box in folded.boxes:
        yield f"  {ids[box.id]}{_shape(box, folded)}"
    for at, link in enumerate(folded.links):
        yield f'  {ids[link.source]} -->|"{mermaid_text(_flow(link))}"| {ids[link.target]}'
        yield f"  linkStyle {at} {_line_style(link, scale)}"
    for box in folded.boxes:
        yield f"  style {ids[box.id]} {_box_style(box, folded, scale)}"


def _dressed(line: str, theme: Theme | None) -> str:
    """Return a line with the theme's colours; only those that set a style have any, as a script's # is escaped."""
    return re.sub("#[0-9a-f]{6}(?=,|$)", lambda match: theme.colored(match[0]), line) if theme else line


def _shape(box: Box, folded: Folded) -> str:
    text = "<br/>".join(mermaid_text(part) for part in sentences(box, folded))
    node = folded.graph.by_id[box.nodes[0]]
    start, end = {"leaf": ('(["', '"])'), "output": ('[["', '"]]')}.get(node.kind, ('["', '"]'))
    return f"{start}{text}{end}" if box.kind in {"node", "op"} else f'["{text}"]'


def _flow(link: Link) -> str:
    together = joined([edge.grad for edge in link.edges])
    count = f"{len(link.edges)} edges " if len(link.edges) > 1 else ""
    norm = together.stats.norm if together.stats else None
    what = kind(together.stats)
    return f"{count}{number(norm) if what in {'finite', 'zero'} and norm is not None else what}"


def _line_style(link: Link, scale: Scale) -> str:
    grad = joined([edge.grad for edge in link.edges]).stats
    what = kind(grad)
    dash = ",stroke-dasharray:4" if what in {"none", "zero"} else ""
    color = f",stroke:{SPECIAL[what]}" if what != "finite" else ""
    return f"stroke-width:{1 + round(4 * scale.share(grad))}px{color}{dash}"


def _box_style(box: Box, folded: Folded, scale: Scale) -> str:
    node = folded.graph.by_id[box.nodes[0]]
    grad: TensorStats | None = (
        box.summary.arrived.stats if box.summary.arrived.tensors else next(iter(node.grads), None)
    )
    what = kind(grad)
    fill = step(scale.share(grad), FILL) if what == "finite" else "#ffffff"
    border = BORDER[node.kind] if what == "finite" else SPECIAL[what]
    return f"fill:{fill},stroke:{border},color:{INK}"
