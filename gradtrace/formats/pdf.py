"""The picture as PDF."""

from __future__ import annotations

from msgspec.structs import replace

from gradtrace.drawing.digraph import source
from gradtrace.engine import draw
from gradtrace.formats.base import Style, register
from gradtrace.model import Report

__all__ = ["render"]


@register("pdf", ".pdf")
def render(report: Report, style: Style) -> bytes:
    """Picture for print and LaTeX, on white."""
    return draw(source(report, replace(style, page=True)), "pdf", style.engine, style.timeout)
