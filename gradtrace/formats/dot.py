"""The picture in DOT, Graphviz's language: what svg, png and pdf lay out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradtrace.drawing.cards import Context, card, crossing, heading, kept
from gradtrace.drawing.clusters import Frames
from gradtrace.drawing.columns import columns_of, size_of
from gradtrace.drawing.flows import lines
from gradtrace.drawing.fold_cards import badges, fold_card, leaf_rows
from gradtrace.drawing.fold_wording import details, opening_lines
from gradtrace.drawing.palette import FONT, INK, PAGE
from gradtrace.fold import Box, Folded
from gradtrace.fold.folding import fold
from gradtrace.fold.frames import lengths
from gradtrace.fold.ranks import ranks_of
from gradtrace.formats.base import Style, register
from gradtrace.graph import beside_each_use, origin, span
from gradtrace.model import Report
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import Scale, kind, number, stats
from gradtrace.wording.phrases import differentiated, expression, href, note, positions, title
from gradtrace.wording.quoting import escaped, one_line, shorten

if TYPE_CHECKING:
    import graphviz

    from gradtrace.model import BackwardPass, Node, TensorStats

__all__ = ["QUICK", "digraph", "render", "source"]

SLOW = 500  # ranks that all edges span; above, shared leaves are copied and the layout is tuned for speed
QUICK = {"newrank": "true", "nslimit": "2", "mclimit": "0.1"}  # below 1, nslimit makes a slope of a long chain
PLAIN = Style()


@register("dot", ".dot", ".gv")
def render(report: Report, style: Style) -> str:
    """Graphviz source, to lay out or to change by other means."""
    text = source(report, style)
    return style.theme.lettered(text) if style.theme else text


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

    whole, scale = report.graph, Scale.of(report.graph)
    folded = _folded(report, style)
    picture = Digraph(title(report), **_defaults(report, scale, folded))
    _tune(picture, folded)
    counts = Counter(origin(name) for box in folded.boxes for name in (*box.nodes, *box.leaves))
    _draw(picture, folded, Context(differentiated(whole), scale, counts, whole.error, report.findings), style)
    return picture


def _folded(report: Report, style: Style) -> Folded:
    graph = report.graph
    if style.view.full and span(graph) > SLOW:
        graph = beside_each_use(graph)
    return fold(graph, style.view, report.findings)


def _tune(picture: graphviz.Digraph, folded: Folded) -> None:
    """Make the layout quick where it would be slow, and the spine of what is folded or has modules straight."""
    ranks = ranks_of(folded)
    if sum(ranks[link.target] - ranks[link.source] for link in folded.links) > SLOW:
        picture.attr(**QUICK)
    if folded.is_folded or any(box.call is not None for box in folded.boxes):
        # A straight spine: else a leaf, often the middle one of three, is straight below.
        picture.attr("edge", weight="8")


def _draw(picture: graphviz.Digraph, folded: Folded, context: Context, style: Style) -> None:
    cards = {box.id: _card(box, folded.graph, context, style) for box in folded.boxes}
    sizes = {box_id: size_of(look["label"]) for box_id, look in cards.items()}
    column = columns_of(folded, sizes, style.columns, page=style.page)
    count = 1 + max(column.values(), default=0)
    parts = [type(picture)(f"cluster_column_{n}", graph_attr={"peripheries": "0"}) for n in range(count)]
    for at, part in enumerate(parts if count > 1 else [picture]):
        boxes = [box for box in folded.boxes if column[box.id] == at]
        frames = Frames(part, folded.graph, boxes, f"{at}_" if count > 1 else "")
        for box in boxes:
            frames.of(box.id).node(box.id, **cards[box.id])
        frames.close()
    if any(box.call is not None for box in folded.boxes) or count > 1:
        picture.attr(newrank="true")  # ranks are of the whole: no edge runs upward
    _draw_links([picture] if count == 1 else parts, folded, context, column)
    for part in parts if count > 1 else []:
        part.attr(label="")
        picture.subgraph(part)


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
    return {"label": label, "tooltip": escaped(told, 2), "class": kind_of, **href(node, style.link)}


def _draw_links(parts: list[graphviz.Digraph], folded: Folded, context: Context, column: dict[str, int]) -> None:
    """Draw the lines; one that crosses into another column ends at a number, and goes on from the same one."""
    folds, crossed, least = {box.id for box in folded.boxes if _is_fold(box)}, 0, lengths(folded)
    for link in folded.links:
        length = least.get((link.source, link.target))
        for attributes in lines(link, folded.graph, context.scale, bundled=bool(folds & {link.source, link.target})):
            here, there = column[link.source], column[link.target]
            if here == there:
                parts[here].edge(link.source, link.target, **attributes, **({"minlen": str(length)} if length else {}))
                continue
            crossed += 1
            parts[here].node(f"to_{crossed}", crossing(crossed, f"to column {there + 1}"), **{"class": "crossing"})
            parts[there].node(f"from_{crossed}", crossing(crossed, f"from column {here + 1}"), **{"class": "crossing"})
            parts[here].edge(link.source, f"to_{crossed}", **attributes)
            parts[there].edge(f"from_{crossed}", link.target, **attributes)


def _is_fold(box: Box) -> bool:
    return box.kind not in {"node", "op"}


def _defaults(report: Report, scale: Scale, folded: Folded) -> dict[str, dict[str, str]]:
    graph = report.graph
    kinds = {kind(edge.grad) for edge in graph.edges} | {kind(grad) for node in graph.nodes for grad in node.grads}
    label = heading(title(report), [_subtitle(graph), *opening_lines(folded)], scale, kinds)
    font = {"fontname": FONT, "fontcolor": INK}
    space = {"pad": "0.2", "nodesep": "0.35", "ranksep": "0.42"}
    return {
        "graph_attr": {"label": label, "labelloc": "t", "labeljust": "l", "bgcolor": PAGE, **space, **font},
        "node_attr": {"shape": "plain", "fontsize": "11", **font},
        "edge_attr": {"fontsize": "9", "arrowsize": "0.6", **font},
    }


def _subtitle(graph: BackwardPass) -> str:
    said = [shorten(one_line(graph.call.text), 48), position(graph.call)] if graph.call else []
    stopped = f"stopped by {one_line(graph.error.type)}" if graph.error else ""
    return " · ".join(filter(None, [*said, stopped]))


def _details(node: Node, box: Box) -> str:
    """Return all that there is to say about a node, one fact per line."""
    values = [f"value {stats(value)}" for value in node.values if value]
    grads = [f"grad {_spread(grad)}" for grad in node.grads]
    what = [node.op if node.kind == "function" else node.kind, one_line(node.name), expression(node)]
    notes = [f"{finding.severity}: {one_line(finding.message)}" for finding in box.findings]
    facts = [*what, one_line(node.module), positions(node), *values, *grads, note(node), *notes]
    return "\n".join(filter(None, facts))


def _spread(grad: TensorStats | None) -> str:
    if grad is None or grad.mean is None or not grad.shape:
        return stats(grad)
    return f"{stats(grad)}, mean {number(grad.mean)}, from {number(grad.min)} to {number(grad.max)}"
