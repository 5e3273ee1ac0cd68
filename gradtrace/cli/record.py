"""``gradtrace record``: the trace, kept in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from gradtrace import tracefile
from gradtrace.cli.options import Module, PassNumber, Source, kept_passes
from gradtrace.cli.output import Target, say
from gradtrace.cli.source import find
from gradtrace.errors import NothingRecordedError

__all__ = ["record"]

Output = Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Where to (.json, .json.gz); - is stdout.")]


def record(
    context: typer.Context, source: Source, *, output: Output, number: PassNumber = "all", module: Module = False
) -> None:
    """Run SCRIPT and keep its backward passes in a file; arguments after SCRIPT are its own."""
    keep = kept_passes(number)
    work = find(source, context.args, module=module)
    target = Target(output)
    recorded = work.record(keep)
    trace = recorded.trace
    target.write(tracefile.dumps(trace))
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    say(f"wrote {output}: {len(trace.passes):,} of {recorded.made:,} backward passes, {nodes:,} nodes")
    if not trace.passes and not recorded.exit_code:
        raise NothingRecordedError("the script made no backward pass", "call backward() or autograd.grad()")
    raise typer.Exit(recorded.exit_code)
