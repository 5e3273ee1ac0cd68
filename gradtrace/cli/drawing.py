"""What ``render`` does beyond calling a format: choices told early, and less where all is too much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gradtrace.cli.output import say
from gradtrace.errors import EngineError, GradtraceError, UnknownNameError
from gradtrace.files import write_whole
from gradtrace.formats.base import FORMATS, SORTS, Style

if TYPE_CHECKING:
    from gradtrace.model import Report
    from gradtrace.registry import Plugin

__all__ = ["check_view", "drawn_or_less"]


def check_view(style: Style) -> None:
    """Raise a GradtraceError for choices that can't be, before the script runs."""
    if style.columns != "auto" and not (style.columns.isdecimal() and int(style.columns) > 0):
        raise UnknownNameError.of("number of columns", style.columns, ("auto", "a number from 1"))
    if style.sort not in SORTS:
        raise UnknownNameError.of("order", style.sort, SORTS)
    if style.view.focus and style.view.between:
        raise GradtraceError("--focus and --between can't be had together", "choose one")
    if style.view.full and style.view.depth is not None:
        raise GradtraceError("--full and --depth can't be had together", "choose one")


def drawn_or_less(plugin: Plugin[Any], report: Report, style: Style, name: str) -> str | bytes:
    """Return what the format draws; where ``--full`` is too much, it folded, with text and JSON beside."""
    try:
        drawn: str | bytes = plugin.function(report, style)
    except EngineError as error:
        if not style.view.full:
            raise
        say(f"{error.message}: {len(report.graph.nodes):,} nodes in full are too many for {style.engine}")
        drawn = plugin.function(report, replace(style, view=replace(style.view, full=False)))
        others = [] if name == "-" else [f"{name}.txt", f"{name}.json"]
        for other, kind in zip(others, ("text", "json"), strict=False):
            write_whole(Path(other), FORMATS[kind].function(report, style))
        beside = f", all nodes are in {' and '.join(others)}" if others else ""
        say(f"drew the folded picture instead{beside}")
    return drawn
