"""Choices of ``render`` checked before the script runs, and a folded picture where the full one is too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gradtrace.cli.output import say
from gradtrace.errors import EngineError, GradtraceError, UnknownNameError
from gradtrace.files import write_whole
from gradtrace.fold import View
from gradtrace.formats.base import FORMATS, SORTS, Style, drawn

if TYPE_CHECKING:
    from gradtrace.model import Report
    from gradtrace.registry import Plugin

__all__ = ["check_view", "drawn_or_less"]

PARTS = ("focus", "radius", "through", "between")  # options of a view that choose a part of the pass
MOST = 150  # boxes drawn without a message


def check_view(style: Style) -> None:
    """Raise a GradtraceError for options that exclude each other, before the script runs."""
    if style.columns != "auto" and not (style.columns.isdecimal() and int(style.columns) > 0):
        raise UnknownNameError.of("number of columns", style.columns, ("auto", "a number from 1"))
    if style.sort not in SORTS:
        raise UnknownNameError.of("order", style.sort, SORTS)
    rest = style.link.replace("{file}", "").replace("{line}", "")
    if "{" in rest or "}" in rest:
        hint = "write it as in 'https://host/{file}#L{line}'"
        raise GradtraceError(f"--link {style.link!r} has other braces than {{file}} and {{line}}", hint)
    view = style.view
    parts = [name for name in ("--focus", "--through", "--between") if getattr(view, name.removeprefix("--"))]
    if len(parts) > 1:
        raise GradtraceError(f"{' and '.join(parts)} can't be used together", "choose one")
    if style.view.full and style.view.depth is not None:
        raise GradtraceError("--full and --depth can't be used together", "choose one")


def drawn_or_less(plugin: Plugin[Any], report: Report, style: Style, name: str) -> str | bytes:
    """Return the format's output; if the graph is too large for the engine, its fold, with text and JSON beside."""
    try:
        result = drawn(plugin, report, style)
    except EngineError as error:
        less = replace(View(), **{key: getattr(style.view, key) for key in PARTS})
        if not error.slow or style.view == less:
            raise
        result = drawn(plugin, report, replace(style, view=less))
        say(f"{error.message}: {_asked(style.view)} is too much for {style.engine}, {len(report.graph.nodes):,} nodes")
        others = [] if name == "-" else [f"{name}.txt", f"{name}.json"]
        for other, kind in zip(others, ("text", "json"), strict=False):
            write_whole(Path(other), FORMATS[kind].function(report, style))
        beside = f", all nodes are in {' and '.join(others)}" if others else ""
        say(f"drew the folded picture instead{beside}")
    else:
        _tell_excess(report, style.view)
    return result


def _tell_excess(report: Report, view: View) -> None:
    """Say how many boxes there are where an option asks for more than the budget."""
    if view.full or not (view.open or view.depth is not None):
        return
    from gradtrace.fold.folding import fold  # noqa: PLC0415 - only where something is drawn

    boxes = len(fold(report.graph, view).boxes)
    most = view.max_nodes or MOST
    if boxes > most:
        say(f"{_asked(view)} makes {boxes:,} boxes, more than {most:,}")


def _asked(view: View) -> str:
    """Return the options that ask for more than the budget."""
    if view.full:
        return "--full"
    depth = [f"--depth {view.depth}"] if view.depth is not None else []
    return " ".join([*depth, *(f"--open {path}" for path in view.open)]) or f"--max-nodes {view.max_nodes or MOST:,}"
