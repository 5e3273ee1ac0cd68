"""What all formats share: their registry, and the style that they draw in."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from gradtrace.drawing.theme import Theme
from gradtrace.errors import GradtraceError, PluginError
from gradtrace.fold import View
from gradtrace.model import Report
from gradtrace.registry import Plugin, Registry, summary_of

__all__ = ["FORMATS", "SORTS", "Style", "drawn", "register"]

SORTS = ("order", "seconds")


class Style(Struct, frozen=True):
    """How to draw: the layout engine and its limit, the width and colour of text.

    Args:
        engine: ``pygraphviz`` (the Graphviz in its wheel) or ``dot`` (the system's).
        timeout: seconds that a layout may take.
        width: columns of a text table; None for as wide as needed.
        color: whether text carries ANSI colours.
        rows: nodes that a text table shows; None for all.
        view: what to show of the pass, and how much of it is folded.
        link: where a node's box leads, with ``{file}`` and ``{line}`` for its source; empty for nowhere.
        columns: how many newspaper columns, or ``auto``: as many as make a page of what is too tall.
        page: whether the picture is for a page, and so is cut earlier.
        attributes: characters to show of each plain attribute that a node keeps; 0 for none of them.
        saved: whether a node's box shows the tensors that it keeps.
        sort: the order of a text table: ``order`` of execution, or ``seconds``.
        theme: colours and fonts of the user's own; None for ours.
        dot: DOT text to lay out in place of our own drawing (``--style torchviz``).
    """

    engine: str = "pygraphviz"
    timeout: float = 60.0
    width: int | None = None
    color: bool = False
    rows: int | None = None
    view: View = View()
    link: str = ""
    columns: str = "auto"
    page: bool = False
    attributes: int = 0
    saved: bool = False
    sort: str = "order"
    theme: Theme | None = None
    dot: str | None = None


Format = Callable[[Report, Style], str | bytes]

FORMATS: Registry[Format] = Registry("format", "gradtrace.formats", "gradtrace.formats")
register = FORMATS.register


def drawn(plugin: Plugin[Format], report: Report, style: Style) -> str | bytes:
    """Return what a format draws; raises PluginError where it is a third party's and fails."""
    if plugin.is_own:
        return plugin.function(report, style)
    try:
        result = plugin.function(report, style)
    except GradtraceError:
        raise
    except Exception as error:
        raise _failed(plugin, summary_of(error)) from error
    if not isinstance(result, (str, bytes)):
        raise _failed(plugin, f"it returned {type(result).__name__}, not text or bytes")
    return result


def _failed(plugin: Plugin[Format], reason: str) -> PluginError:
    return PluginError(f"format {plugin.name!r} of {plugin.home} failed: {reason}", "report it there")
