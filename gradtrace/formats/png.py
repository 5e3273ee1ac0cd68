"""The picture as PNG."""

from __future__ import annotations

from gradtrace.drawing.digraph import source
from gradtrace.engine import draw
from gradtrace.formats.base import Style, register
from gradtrace.model import Report

__all__ = ["render"]


@register("png", ".png")
def render(report: Report, style: Style) -> bytes:
    """Picture in pixels, on white."""
    return draw(source(report, style), "png", style.engine, style.timeout)
