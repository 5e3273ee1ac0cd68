"""What all formats share: their registry, and the style that they draw in."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from gradtrace.model import Report
from gradtrace.registry import Registry

__all__ = ["FORMATS", "Style", "register"]


class Style(Struct, frozen=True):
    """How to draw: the layout engine and its limit, the width and colour of text.

    Args:
        engine: ``pygraphviz`` (the Graphviz in its wheel) or ``dot`` (the system's).
        timeout: seconds that a layout may take.
        width: columns of a text table; None for as wide as needed.
        color: whether text carries ANSI colours.
        rows: nodes that a text table shows; None for all.
        dot: DOT text to lay out in place of our own drawing (``--style torchviz``).
    """

    engine: str = "pygraphviz"
    timeout: float = 60.0
    width: int | None = None
    color: bool = False
    rows: int | None = None
    dot: str | None = None


Format = Callable[[Report, Style], str | bytes]

FORMATS: Registry[Format] = Registry("format", "gradtrace.formats", "gradtrace.formats")
register = FORMATS.register
