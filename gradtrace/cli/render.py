"""``gradtrace render``: a picture of one pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gradtrace.api import choose_format, select
from gradtrace.cli.options import (
    Engine,
    FormatName,
    Late,
    Look,
    Module,
    Output,
    PassNumber,
    Source,
    Timeout,
    is_format,
    is_output,
    is_pass,
    kept_passes,
    take_late,
)
from gradtrace.cli.output import Target, print_table, say
from gradtrace.cli.source import Recorded, find
from gradtrace.engine import check_engine
from gradtrace.errors import UnknownNameError
from gradtrace.formats.base import Style
from gradtrace.model import Report

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass

__all__ = ["render"]

LOOKS = ("gradtrace", "torchviz")
LATE = (
    Late("output", ("-o", "--output"), is_output),
    Late("format", ("-f", "--format"), is_format),
    Late("pass", ("--pass",), is_pass),
)


def render(
    context: typer.Context,
    source: Source,
    *,
    output: Output = None,
    format_name: FormatName = None,
    number: PassNumber = "last",
    engine: Engine = "pygraphviz",
    look: Look = "gradtrace",
    timeout: Timeout = 60.0,
    module: Module = False,
) -> None:
    """Run SCRIPT and draw its backward pass; arguments after SCRIPT are its own."""
    late, arguments = take_late(context.args, LATE)
    output, format_name = output or late.get("output"), format_name or late.get("format")
    number = late.get("pass", number)
    keep = kept_passes(number)
    check_engine(engine)
    if look not in LOOKS:
        raise UnknownNameError.of("style", look, LOOKS)
    target_name = output or _beside(source, format_name)
    plugin = choose_format(target_name, format_name or ("svg" if output == "-" else None))
    work = find(source, arguments, module=module)
    target = Target(target_name)
    recorded = work.record(keep, torchviz=look == "torchviz")
    graph = _chosen(recorded, number)
    report = Report(recorded.trace, graph)
    dot = recorded.torchviz.get(graph.index)
    target.write(plugin.function(report, Style(engine=engine, timeout=timeout, dot=dot)))
    say(f"wrote {target.name}: {_described(graph, recorded)}")
    if output is None:
        print_table(report)
    raise typer.Exit(recorded.exit_code)


def _beside(source: str, format_name: str | None) -> str:
    """Return the name of the picture of ``source``, in the current folder."""
    stem = Path(source).name
    for ending in (".gz", ".json", ".py", ".pyw"):
        stem = stem.removesuffix(ending)
    plugin = choose_format("", format_name or "svg")
    return stem + (plugin.suffixes or (f".{plugin.name}",))[0]


def _chosen(recorded: Recorded, number: str) -> BackwardPass:
    """Return the pass to draw; where there is none, the script's own exit code comes first."""
    if not recorded.trace.passes and recorded.exit_code:
        say("the script ended before any backward pass, so there is nothing to draw")
        raise typer.Exit(recorded.exit_code)
    return select(recorded.trace, number)


def _described(graph: BackwardPass, recorded: Recorded) -> str:
    count = max(recorded.made, graph.index)
    return f"backward pass {graph.index:,} of {count:,}, {len(graph.nodes):,} nodes, {len(graph.edges):,} edges"
