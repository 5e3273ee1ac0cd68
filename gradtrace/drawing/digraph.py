"""The picture of a pass in Graphviz's language: what svg, png and pdf lay out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradtrace.drawing.cards import Context, card, heading, kept
from gradtrace.drawing.fitting import fitted
from gradtrace.drawing.flows import Told, lines
from gradtrace.drawing.fold_cards import badges, fold_card, leaf_rows
from gradtrace.drawing.fold_wording import details, opening_lines
from gradtrace.drawing.palette import FONT, INK, PAGE
from gradtrace.drawing.sheet import SLOW, SPACE, Sheet
from gradtrace.drawing.style import Style
from gradtrace.fold import Box, Folded
from gradtrace.fold.legible import is_scalar
from gradtrace.graph import beside_each_use, origin, span
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import Scale, kind, number, stats
from gradtrace.wording.phrases import differentiated, explained, href, note, positions, title
from gradtrace.wording.quoting import escaped, one_line, shorten, tooltip

if TYPE_CHECKING:
    from collections.abc import Iterable

    import graphviz

    from gradtrace.fold import Link
    from gradtrace.model import BackwardPass, Node, Report, TensorStats

__all__ = ["boxes_drawn", "digraph", "folded_for", "source"]

PLAIN = Style()
ROOM_FOR_SLOPES = {"nodesep": "0.5", "ranksep": "0.65"}  # inches
REMEMBERED = "_picture"  # beside what a pass remembers of itself: to find a fold that can be read takes a while

LONGEST_TITLE = 200


def source(report: Report, style: Style) -> str:
    """Return the DOT text to lay out: the style's own, or that of our picture in the theme's colours.

    Its fonts are the engine's, which has no others.
    """
    if style.dot is not None:
        return style.dot
    plain = str(digraph(report, style).source)
    return style.theme.painted(plain) if style.theme else plain


def digraph(report: Report, style: Style = PLAIN) -> graphviz.Digraph:
    """Return the picture of a pass as a Digraph, which can be changed and rendered further."""
    from graphviz import Digraph  # noqa: PLC0415 - 15 ms that only a drawing needs

    sheet, scale = _sheet(report, style), Scale.of(report.graph)
    picture = Digraph(escaped(shorten(title(report), LONGEST_TITLE)), **_defaults(report, scale, sheet.folded))
    folds = {box.id for box in sheet.folded.boxes if _is_fold(box)}
    slopes = is_scalar(report.graph) if style.slopes is None else style.slopes
    told = Told(sheet.folded.graph, scale, slopes)

    def looks(link: Link) -> Iterable[dict[str, str]]:
        return lines(link, told, bundled=bool(folds & {link.source, link.target}))

    picture.attr(**(ROOM_FOR_SLOPES if slopes else {}))
    sheet.draw(picture, looks)
    return picture


def folded_for(report: Report, style: Style = PLAIN) -> Folded:
    """Return the fold that the picture of a pass shows."""
    return _sheet(report, style).folded


def boxes_drawn(graph: BackwardPass) -> int:
    """Return how many boxes the last picture of a pass had; 0 where there was none."""
    last = graph.__dict__.get(REMEMBERED)
    return len(last[1].folded.boxes) if last else 0


def _sheet(report: Report, style: Style) -> Sheet:
    """Return the picture's boxes with their cards: those of the last time, where nothing else is asked for."""
    key = (report.findings, style.view, style.columns, style.page, style.link, style.attributes, style.saved)
    last = report.graph.__dict__.get(REMEMBERED)
    if last is None or last[0] != key:
        last = report.graph.__dict__[REMEMBERED] = (key, _fitted(report, style))
    sheet: Sheet = last[1]
    return sheet


def _fitted(report: Report, style: Style) -> Sheet:
    """Return the picture's boxes with their cards, in a fold that can be read unless another one was asked for."""
    graph, scale = report.graph, Scale.of(report.graph)
    if style.view.full and span(graph) > SLOW:
        graph = beside_each_use(graph)

    def cards(folded: Folded) -> dict[str, dict[str, str]]:
        counts = Counter(origin(name) for box in folded.boxes for name in (*box.nodes, *box.leaves))
        context = Context(differentiated(report.graph), scale, counts, graph.error, report.findings)
        return {box.id: _card(box, folded.graph, context, style) for box in folded.boxes}

    def head(folded: Folded) -> str:
        return _heading(report, scale, folded)

    return fitted(graph, report.findings, style, (cards, head))


def _card(box: Box, graph: BackwardPass, context: Context, style: Style) -> dict[str, str]:
    """Return the attributes of a box."""
    node = graph.by_id[box.nodes[0]]
    more = [*badges(box, beside=node.id), *leaf_rows(box, graph, context)]
    label = (
        fold_card(box, graph, context)
        if _is_fold(box)
        else card(node, context, [*more, *kept(node, attributes=style.attributes, saved=style.saved)])
    )
    told = details(box, graph) if _is_fold(box) else _details(node, box)
    kind_of = box.kind if _is_fold(box) else node.kind
    return {"label": label, "tooltip": tooltip(told), "class": kind_of, **href(node, style.link)}


def _is_fold(box: Box) -> bool:
    return box.kind not in {"node", "op"}


def _defaults(report: Report, scale: Scale, folded: Folded) -> dict[str, dict[str, str]]:
    label, font = _heading(report, scale, folded), {"fontname": FONT, "fontcolor": INK}
    return {
        "graph_attr": {"label": label, "labelloc": "t", "labeljust": "l", "bgcolor": PAGE, **SPACE, **font},
        "node_attr": {"shape": "plain", "fontsize": "10", **font},
        "edge_attr": {"fontsize": "9", "arrowsize": "0.6", **font},
    }


def _heading(report: Report, scale: Scale, folded: Folded) -> str:
    graph = report.graph
    kinds = {kind(edge.grad) for edge in graph.edges} | {kind(grad) for node in graph.nodes for grad in node.grads}
    return heading(title(report), [_subtitle(graph), *opening_lines(folded)], scale, kinds)


def _subtitle(graph: BackwardPass) -> str:
    said = [shorten(one_line(graph.call.text), 48), position(graph.call)] if graph.call else []
    stopped = f"stopped by {one_line(graph.error.type)}" if graph.error else ""
    return " · ".join(filter(None, [*said, stopped]))


def _details(node: Node, box: Box) -> str:
    """Return all that there is to say about a node, one fact per line."""
    values = [f"value {stats(value)}" for value in node.values if value]
    grads = [f"grad {_spread(grad)}" for grad in node.grads]
    what = [node.op if node.kind == "function" else node.kind, one_line(node.name), explained(node)]
    notes = [f"{finding.severity}: {one_line(finding.message)}" for finding in box.findings]
    facts = [*what, one_line(node.module), positions(node), *values, *grads, note(node), *notes]
    return "\n".join(filter(None, facts))


def _spread(grad: TensorStats | None) -> str:
    if grad is None or grad.mean is None or not grad.shape:
        return stats(grad)
    return f"{stats(grad)}, mean {number(grad.mean)}, from {number(grad.min)} to {number(grad.max)}"
