"""The picture in DOT, Graphviz's language: what svg, png and pdf lay out."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import graphviz

from gradtrace.formats.base import Style, register
from gradtrace.formats.labels import Context, card, heading, more
from gradtrace.formats.numbers import Scale, kind, number, stats
from gradtrace.formats.palette import INK, LINE, PAGE, SPECIAL, step
from gradtrace.formats.words import called, clean, differentiated, escaped, expression, place, position, shorten, title
from gradtrace.graph import beside_each_use, head, origin, span
from gradtrace.model import Report

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Edge, Node, TensorStats

__all__ = ["digraph", "render", "source"]

FONT = "Helvetica,Arial,sans-serif"
MOST, LONGEST = 150, 1500  # nodes, and ranks that all edges span together; what is beyond is counted, not drawn
SLOW = 500  # ranks; above, shared leaves are copied and the layout is tuned for speed
QUICK = {"newrank": "true", "nslimit": "2", "mclimit": "0.1"}  # below 1, nslimit makes a slope of a long chain
LONGEST_FLOW = 24  # characters beside an edge
LOOKS = {
    "none": {"style": "dashed"},
    "zero": {"style": "dotted", "penwidth": "1.5"},
    "inf": {"penwidth": "4.5"},
    "nan": {"penwidth": "1.6", "color": f"{SPECIAL['nan']}:{PAGE}:{SPECIAL['nan']}"},
}


@register("dot", ".dot", ".gv")
def render(report: Report, style: Style) -> str:
    """Graphviz source, to lay out or to change by other means."""
    return source(report, style)


def source(report: Report, style: Style) -> str:
    """Return the DOT text to lay out: the style's own, or that of our picture."""
    return style.dot if style.dot is not None else str(digraph(report).source)


def digraph(report: Report) -> graphviz.Digraph:
    """Return the picture of a pass as a Digraph, which can be changed and rendered further."""
    whole, scale = report.graph, Scale.of(report.graph)
    quick = len(whole.nodes) > MOST or span(whole) > SLOW
    spread = beside_each_use(whole) if quick else whole
    shown = head(spread, MOST, LONGEST) if quick else whole
    picture = graphviz.Digraph(title(report), **_defaults(report, scale))
    if quick:
        picture.attr(**QUICK)
        picture.attr(
            "edge", weight="8"
        )  # a straight spine: else a leaf, often the middle one of three, is straight below
    copies = Counter(origin(node.id) for node in spread.nodes)
    _draw(picture, shown, Context(differentiated(whole), scale, copies, whole.error, report.findings))
    _mention(picture, whole, {origin(node.id): node.id for node in shown.nodes})
    return picture


def _mention(picture: graphviz.Digraph, whole: BackwardPass, shown: dict[str, str]) -> None:
    """Draw one box for all nodes that are not shown, below the last that leads to one."""
    hidden = len(whole.nodes) - len(shown)
    if hidden:
        cut = [edge.source for edge in whole.edges if edge.source in shown and edge.target not in shown]
        picture.node("more", more(hidden), **{"class": "more"})
        picture.edge(shown[cut[-1]] if cut else whole.nodes[0].id, "more", style="dashed", color=SPECIAL["none"])


def _draw(picture: graphviz.Digraph, graph: BackwardPass, context: Context) -> None:
    for node in graph.nodes:
        picture.node(node.id, card(node, context), tooltip=escaped(_details(node), 2), **{"class": node.kind})
    for edge in graph.edges:
        picture.edge(edge.source, edge.target, **_line(edge, graph, context.scale))


def _defaults(report: Report, scale: Scale) -> dict[str, dict[str, str]]:
    graph = report.graph
    kinds = {kind(edge.grad) for edge in graph.edges} | {kind(grad) for node in graph.nodes for grad in node.grads}
    label = heading(title(report), _subtitle(graph), scale, kinds)
    font = {"fontname": FONT, "fontcolor": INK}
    space = {"pad": "0.2", "nodesep": "0.35", "ranksep": "0.42"}
    return {
        "graph_attr": {"label": label, "labelloc": "t", "labeljust": "l", "bgcolor": PAGE, **space, **font},
        "node_attr": {"shape": "plain", "fontsize": "11", **font},
        "edge_attr": {"fontsize": "9", "arrowsize": "0.6", **font},
    }


def _subtitle(graph: BackwardPass) -> str:
    said = [shorten(clean(graph.call.text), 48), position(graph.call)] if graph.call else []
    stopped = f"stopped by {clean(graph.error.type)}" if graph.error else ""
    return " · ".join(filter(None, [*said, stopped]))


def _line(edge: Edge, graph: BackwardPass, scale: Scale) -> dict[str, str]:
    """Return an edge's attributes: number, colour, thickness and line style, after what flowed along it."""
    what = kind(edge.grad)
    start = f"{called(graph.by_id[edge.source])}[{edge.source_index}]"
    end = f"{called(graph.by_id[edge.target])}[{edge.target_index}]"
    tooltip = escaped(f"{start} → {end}: {stats(edge.grad)}", 2)
    if what == "finite":
        share = scale.share(edge.grad)
        look = {"color": step(share, LINE), "penwidth": f"{0.8 + 3.4 * share:.2f}"}
    else:
        look = {"color": SPECIAL[what], "fontcolor": SPECIAL[what], **LOOKS.get(what, {})}
    gap = " " * (1 + round(float(look.get("penwidth", 1)) / 2))  # a label stands beside the middle of the line
    label = f"{gap}{escaped(_flow(edge.grad))}"
    weight = {"weight": "1"} if graph.by_id[edge.target].kind == "leaf" else {}
    return {**look, **weight, "label": label, "class": what, "tooltip": tooltip, "labeltooltip": tooltip}


def _flow(grad: TensorStats | None) -> str:
    # The shape of a large one, or its values, stand on the node that it leads to.
    text = stats(grad)
    short = len(text) <= LONGEST_FLOW and "‖" not in text
    return text if grad is None or short or kind(grad) != "finite" else f"‖{number(grad.norm)}‖"


def _details(node: Node) -> str:
    """Return all that there is to say about a node, one fact per line."""
    values = [f"value {stats(value)}" for value in node.values if value]
    grads = [f"grad {_spread(grad)}" for grad in node.grads]
    what = [node.op if node.kind == "function" else node.kind, clean(node.name), expression(node)]
    facts = [*what, clean(node.module), place(node), *values, *grads]
    return "\n".join(filter(None, facts))


def _spread(grad: TensorStats | None) -> str:
    if grad is None or grad.mean is None or not grad.shape:
        return stats(grad)
    return f"{stats(grad)}, mean {number(grad.mean)}, from {number(grad.min)} to {number(grad.max)}"
