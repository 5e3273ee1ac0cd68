"""``gradtrace diff``: compare two saved traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from gradtrace.api import choose_format
from gradtrace.checks.trace_diff import Tolerance, compare
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import Rank, is_output
from gradtrace.cli.output import Target, say
from gradtrace.cli.source import saved_trace
from gradtrace.errors import GradtraceError
from gradtrace.formats.base import Style
from gradtrace.history import first_difference
from gradtrace.model import Report
from gradtrace.wording.differences import as_findings, as_text
from gradtrace.wording.numbers import number
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from gradtrace.difference import Difference
    from gradtrace.model import Trace

__all__ = ["diff"]

DEFAULT = Tolerance()
Before = Annotated[str, typer.Argument(metavar="TRACE", help="A trace saved by gradtrace record.")]
After = Annotated[str, typer.Argument(metavar="TRACE", help="The trace to compare it with.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Also draw the pass, with both numbers on each node."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")]
Rtol = Annotated[float, typer.Option("--rtol", metavar="NUMBER", min=0, help="Relative tolerance.")]
Atol = Annotated[float, typer.Option("--atol", metavar="NUMBER", min=0, help="Absolute tolerance.")]


def diff(
    context: typer.Context,
    before: Before,
    after: After,
    *,
    output: Output = None,
    json: Json = False,
    rtol: Rtol = DEFAULT.rtol,
    atol: Atol = DEFAULT.atol,
    rank: Rank = None,
) -> None:
    """Compare two traces: the first gradient that differs, the leaves that differ most, nodes that are new or gone."""
    late, rest = take_late(context, (Late("json", ("--json",)), Late("output", ("-o", "--output"), is_output)))
    if rest:
        raise GradtraceError(f"diff takes two traces, got {rest[0]!r} as well", "put options before the traces")
    json, output = json or "json" in late, output or late.get("output")
    plugin = choose_format(output) if output is not None else None
    traces = saved_trace(before, rank), saved_trace(after, rank)
    difference = compare(*traces, Tolerance(rtol, atol))
    if json:
        Target("-").write(msgspec.json.format(msgspec.json.encode(difference), indent=2) + b"\n")
    else:
        typer.echo(as_text(difference), nl=False)
        _tell_history(*traces, rtol)
    if plugin is not None and output is not None:
        Target(output).write(plugin.function(_report(difference, traces[1]), Style()))
        say(f"wrote {output}")
    raise typer.Exit(int(difference.differs))


def _tell_history(before: Trace, after: Trace, rtol: float) -> None:
    """Print the pass in which the histories of all passes, kept or not, first differ."""
    found = first_difference(before, after, rtol)
    if found is not None:
        ends = " and ".join("none" if norm is None else f"{number(norm)}" for norm in (found.before, found.after))
        name = one_line(found.series.name) or "a leaf"
        typer.echo(f"the histories part at pass {found.pass_index:,}: the gradient norms of {name} are {ends}")


def _report(difference: Difference, after: Trace) -> Report:
    """Return the second trace's pass with the first difference, with both numbers on each node."""
    index = difference.changes[0].pass_index if difference.changes else 1
    graph = next((graph for graph in after.passes if graph.index == index), after.passes[-1])
    return Report(after, graph, as_findings(difference, graph.index))
