"""``gradtrace diff``: two recordings, and where their gradients part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gradtrace import tracefile
from gradtrace.api import choose_format
from gradtrace.checks.trace_diff import Tolerance, compare
from gradtrace.cli.options import Late, is_output, take_late
from gradtrace.cli.output import Target, say
from gradtrace.errors import GradtraceError
from gradtrace.formats.base import Style
from gradtrace.model import Report
from gradtrace.wording.differences import as_findings, as_text

if TYPE_CHECKING:
    from gradtrace.model import Difference, Trace

__all__ = ["diff"]

DEFAULT = Tolerance()
Before = Annotated[str, typer.Argument(metavar="TRACE", help="A saved trace.")]
After = Annotated[str, typer.Argument(metavar="TRACE", help="The trace to compare with it.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="A picture with both numbers.")]
Json = Annotated[bool, typer.Option("--json", help="The differences as data, on stdout.")]
Rtol = Annotated[float, typer.Option("--rtol", min=0, help="Relative to the larger gradient.")]
Atol = Annotated[float, typer.Option("--atol", min=0, help="In the gradient's own unit.")]


def diff(
    context: typer.Context,
    before: Before,
    after: After,
    *,
    output: Output = None,
    json: Json = False,
    rtol: Rtol = DEFAULT.rtol,
    atol: Atol = DEFAULT.atol,
) -> None:
    """Compare two recordings: where gradients first part, which leaves moved most, which nodes came or went."""
    late, rest = take_late(context.args, (Late("json", ("--json",)), Late("output", ("-o", "--output"), is_output)))
    if rest:
        raise GradtraceError(f"diff takes two traces, got {rest[0]!r} as well", "put options before the traces")
    json, output = json or "json" in late, output or late.get("output")
    plugin = choose_format(output) if output is not None else None
    traces = tracefile.load(before), tracefile.load(after)
    found = compare(*traces, Tolerance(rtol, atol))
    if json:
        Target("-").write(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    else:
        typer.echo(as_text(found), nl=False)
    if plugin is not None and output is not None:
        Target(output).write(plugin.function(_report(found, traces[1]), Style()))
        say(f"wrote {output}")
    raise typer.Exit(int(found.differs))


def _report(found: Difference, after: Trace) -> Report:
    """Return the second trace's pass in which the first difference is, with both numbers on each node."""
    index = found.changes[0].pass_index if found.changes else 1
    graph = next((graph for graph in after.passes if graph.index == index), after.passes[-1])
    return Report(after, graph, as_findings(found, graph.index))
