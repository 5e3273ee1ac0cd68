"""The picture in DOT, Graphviz's language."""

from __future__ import annotations

from gradtrace.drawing.digraph import source
from gradtrace.formats.base import Style, register
from gradtrace.model import Report

__all__ = ["render"]


@register("dot", ".dot", ".gv")
def render(report: Report, style: Style) -> str:
    """Graphviz source, to lay out or to change by other means."""
    text = source(report, style)
    return style.theme.lettered(text) if style.theme else text
