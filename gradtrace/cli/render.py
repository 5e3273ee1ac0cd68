"""``gradtrace render``: draw a backward pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from gradtrace.api import choose_format, report_of, select
from gradtrace.checks.base import failures
from gradtrace.cli.draw_fallback import check_view, drawn_or_less
from gradtrace.cli.formula_table import with_formulas
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import (
    Between,
    Columns,
    Depth,
    Engine,
    Focus,
    FormatName,
    Formulas,
    Full,
    Link,
    Look,
    MaxNodes,
    Module,
    Open,
    Output,
    PassNumber,
    Radius,
    Rank,
    Slopes,
    Sort,
    Source,
    ThemeName,
    Through,
    Timeout,
    is_format,
    is_output,
    is_pass,
    kept_passes,
)
from gradtrace.cli.output import Target, busy, print_findings, print_table, say
from gradtrace.cli.source import Recorded, find
from gradtrace.drawing.digraph import boxes_drawn
from gradtrace.drawing.theme import Theme
from gradtrace.engine import check_engine
from gradtrace.errors import OutputError, UnknownNameError
from gradtrace.fold import View
from gradtrace.formats.base import FORMATS, Style
from gradtrace.processes.process import file_name

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Report, Trace

__all__ = ["render"]

LOOKS = ("gradtrace", "torchviz")
LATE = (
    Late("output", ("-o", "--output"), is_output),
    Late("format", ("-f", "--format"), is_format, FORMATS),
    Late("pass", ("--pass",), is_pass),
    Late("formulas", ("--formulas",)),
)


def render(
    context: typer.Context,
    source: Source,
    *,
    output: Output = None,
    format_name: FormatName = None,
    number: PassNumber = "",
    engine: Engine = "pygraphviz",
    look: Look = "gradtrace",
    timeout: Timeout = 60.0,
    module: Module = False,
    rank: Rank = None,
    formulas: Formulas = False,
    max_nodes: MaxNodes = None,
    depth: Depth = None,
    opened: Open = None,
    full: Full = False,
    focus: Focus = "",
    radius: Radius = None,
    through: Through = "",
    between: Between = None,
    columns: Columns = "auto",
    link: Link = "",
    slopes: Slopes = None,
    sort: Sort = "order",
    theme: ThemeName = "",
) -> None:
    """Run SCRIPT and draw its last backward pass, with the gradient on each node and each edge.

    Arguments after SCRIPT are passed to it. Without -o, a table is printed, and the picture is written to
    the current folder.
    """
    late, arguments = take_late(context, LATE)
    output, format_name = output or late.get("output"), format_name or late.get("format")
    number, formulas = late.get("pass", number), formulas or "formulas" in late
    check_engine(engine)
    if look not in LOOKS:
        raise UnknownNameError.of("style", look, LOOKS)
    view = View(max_nodes, depth, tuple(opened or ()), full, focus, between, radius, through)
    style = Style(engine=engine, timeout=timeout, view=view, columns=columns, link=link, sort=sort, slopes=slopes)
    style = replace(style, theme=Theme.load(theme) if theme else None)
    check_view(style)
    target_name = output or _beside(source, format_name)
    plugin = choose_format(target_name, format_name or ("svg" if output == "-" else None))
    number = number or ("all" if plugin.whole else "last")
    keep = kept_passes(number)
    work = find(source, arguments, module=module).of_rank(rank)
    many = not plugin.whole and (keep is None or len(keep) > 1)
    # Several passes go to one file each, named later; if one can be written here, all can.
    target_name = file_name(target_name, work.process)
    targets = {number: Target(_numbered(target_name, 1) if many else target_name)}
    recorded = work.record(keep, torchviz=look == "torchviz")
    graphs, exit_code = _chosen(recorded, keep)
    trace = replace(recorded.trace, passes=tuple(graphs)) if plugin.whole else recorded.trace
    for graph in [select(trace)] if plugin.whole else graphs:
        target = Target(_numbered(target_name, graph.index)) if many else targets[number]
        report = report_of(trace, with_formulas(graph, trace) if formulas else graph)
        drawing = replace(style, dot=recorded.torchviz.get(graph.index))
        with busy(f"drawing {len(graph.nodes):,} nodes"):
            drawn = drawn_or_less(plugin, report, drawing, target.name)
        target.write(drawn)
        told = _counted(trace) if plugin.whole else _described(report, recorded, boxes_drawn(report.graph))
        say(f"wrote {target.name}: {told}")
    if output is None and not many:
        print_table(_unexplained(report), sort)
    elif plugin.name not in {"text", "markdown"}:  # which have them
        print_findings(_unexplained(report_of(recorded.trace, *graphs)).findings)
    _tell_unchecked(recorded, graphs)
    raise typer.Exit(exit_code)


def _numbered(name: str, index: int) -> str:
    """Return the name of the file for one of several passes: ``loss.svg`` becomes ``loss-10.svg``."""
    if name == "-":
        raise OutputError("several passes can't go to stdout", "choose one with --pass, or name a file with -o")
    path = Path(name)
    return str(path.with_name(f"{path.stem}-{index}{path.suffix}"))


def _tell_unchecked(recorded: Recorded, graphs: list[BackwardPass]) -> None:
    """Print which passes were checked, if the script made more."""
    if recorded.made > len(graphs):
        checked = f"pass {graphs[0].index:,} was" if len(graphs) == 1 else f"{len(graphs):,} passes were"
        say(f"only {checked} checked; gradtrace check looks at all {recorded.made:,}")


def _unexplained(report: Report) -> Report:
    """Return the report without the findings that were printed under the script's traceback."""
    printed = failures() if report.trace.error is not None else []
    rest = [finding for finding in report.findings if finding.check not in printed]
    return replace(report, findings=tuple(rest))


def _beside(source: str, format_name: str | None) -> str:
    """Return the name of the picture of ``source``, in the current folder."""
    stem = Path(source).name
    for ending in (".gz", ".json", ".py", ".pyw"):
        stem = stem.removesuffix(ending)
    plugin = choose_format("", format_name or "svg")
    return stem + (plugin.suffixes or (f".{plugin.name}",))[0]


def _chosen(recorded: Recorded, keep: frozenset[int] | None) -> tuple[list[BackwardPass], int]:
    """Return the passes to draw and the exit code; if there is no pass, the script's own exit code comes first."""
    if not recorded.trace.passes and recorded.exit_code:
        say("the script ended before any backward pass, so there is nothing to draw")
        raise typer.Exit(recorded.exit_code)
    if keep:
        return recorded.numbered(keep)
    every = list(recorded.trace.passes) if keep is None else []
    return every or [select(recorded.trace)], recorded.exit_code


def _counted(trace: Trace) -> str:
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    return f"{len(trace.passes):,} backward pass{'' if len(trace.passes) == 1 else 'es'}, {nodes:,} nodes"


def _described(report: Report, recorded: Recorded, boxes: int) -> str:
    graph = report.graph
    made = max(recorded.made, graph.index)
    kept = len(recorded.trace.passes)
    others = f"1 to {made - 1:,}" if graph.index == made > 2 and kept == 1 else f"{made - kept:,}"  # noqa: PLR2004
    left_out = f"; {others} not kept, see --pass" if made > kept else ""
    size = f"{len(graph.nodes):,} nodes in {boxes:,} boxes" if boxes else f"{len(graph.nodes):,} nodes"
    return f"{size}; backward pass {graph.index:,} of {made:,}{left_out}"
