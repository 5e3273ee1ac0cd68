"""The lines between boxes: what flowed along them, in words, colour, thickness and line style."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.drawing.palette import LINE, PAGE, SPECIAL, step
from gradtrace.drawing.slopes import slope
from gradtrace.fold.gradient_summary import joined
from gradtrace.wording.numbers import Scale, kind, number, stats
from gradtrace.wording.phrases import called
from gradtrace.wording.quoting import escaped, tooltip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.fold import Link
    from gradtrace.model import BackwardPass, Edge, TensorStats

__all__ = ["Told", "line", "lines"]

LONGEST_FLOW = 24  # characters beside an edge
MOST_TOLD = 12  # edges of a bundle that its tooltip tells one by one
LOOKS = {
    "none": {"style": "dashed"},
    "zero": {"style": "dotted", "penwidth": "1.5"},
    "inf": {"penwidth": "4.5"},
    "nan": {"penwidth": "1.6", "color": f"{SPECIAL['nan']}:{PAGE}:{SPECIAL['nan']}"},
}


class Told(Struct, frozen=True):
    """Options of a line: its pass, the scale, and whether it says the local derivative."""

    graph: BackwardPass
    scale: Scale
    slopes: bool = False


def lines(link: Link, told: Told, *, bundled: bool) -> Iterator[dict[str, str]]:
    """Yield the attributes of each line to draw for a link: one for each edge, or one for all."""
    if bundled and len(link.edges) > 1:
        yield _bundle(link, told.graph, told.scale)
    else:
        yield from (line(edge, told) for edge in link.edges)


def line(edge: Edge, told: Told) -> dict[str, str]:
    """Return an edge's attributes: number, colour, thickness and line style, after what flowed along it."""
    weight = {"weight": "1"} if told.graph.by_id[edge.target].kind == "leaf" else {}
    text = (slope(edge, told.graph) if told.slopes else "") or _flow(edge.grad)
    return {**_look(edge.grad, text, _told(edge, told.graph), told.scale), **weight}


def _bundle(link: Link, graph: BackwardPass, scale: Scale) -> dict[str, str]:
    together = joined([edge.grad for edge in link.edges])
    told = [_told(edge, graph) for edge in link.edges[:MOST_TOLD]]
    rest = [f"and {len(link.edges) - MOST_TOLD} more"] if len(link.edges) > MOST_TOLD else []
    norm = together.stats.norm if together.stats else None
    text = f"‖{number(norm)}‖" if kind(together.stats) == "finite" and norm is not None else kind(together.stats)
    return _look(together.stats, f"{len(link.edges)} edges {text}", "\n".join([*told, *rest]), scale)


def _told(edge: Edge, graph: BackwardPass) -> str:
    start = f"{called(graph.by_id[edge.source])}[{edge.source_index}]"
    end = f"{called(graph.by_id[edge.target])}[{edge.target_index}]"
    return f"{start} → {end}: {stats(edge.grad)}"


def _look(grad: TensorStats | None, text: str, told: str, scale: Scale) -> dict[str, str]:
    what, words = kind(grad), tooltip(told)
    if what == "finite":
        share = scale.share(grad)
        look = {"color": step(share, LINE), "penwidth": f"{0.8 + 3.4 * share:.2f}"}
    else:
        look = {"color": SPECIAL[what], "fontcolor": SPECIAL[what], **LOOKS.get(what, {})}
    return {**look, "label": _on_line(text), "class": what, "tooltip": words, "labeltooltip": words}


def _on_line(text: str) -> str:
    """Return a label that stands on its line: on the page's colour, so that the line does not cross the text."""
    cell = f"<tr><td>{escaped(text)}</td></tr>"
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="1" bgcolor="{PAGE}">{cell}</table>>'


def _flow(grad: TensorStats | None) -> str:
    # The shape of a large one, or its values, stand on the node that it leads to.
    text = stats(grad)
    short = len(text) <= LONGEST_FLOW and "‖" not in text
    return text if grad is None or short or kind(grad) != "finite" else f"‖{number(grad.norm)}‖"
