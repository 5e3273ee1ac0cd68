"""``gradtrace record``: the trace, kept in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from gradtrace import tracefile
from gradtrace.cli.options import Late, Module, PassNumber, Source, is_pass, kept_passes, take_late
from gradtrace.cli.output import Target, say
from gradtrace.cli.source import find
from gradtrace.errors import NothingRecordedError, OutputError

__all__ = ["record"]

LATE = (Late("output", ("-o", "--output"), lambda _: True), Late("pass", ("--pass",), is_pass))
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to (.json, .json.gz); - is stdout.")
]
Calls = Annotated[bool, typer.Option("--calls", help="Also keep the torch calls, from which explain derives formulas.")]
Numeric = Annotated[bool, typer.Option("--numeric", help="Also compare each gradient with finite differences.")]


def record(
    context: typer.Context,
    source: Source,
    *,
    output: Output = None,
    number: PassNumber = "all",
    module: Module = False,
    calls: Calls = False,
    numeric: Numeric = False,
) -> None:
    """Run SCRIPT and keep its backward passes in a file; arguments after SCRIPT are its own."""
    late, arguments = take_late(context.args, [option for option in LATE if output is None or option.key != "output"])
    output, number = output or late.get("output"), late.get("pass", number)
    if output is None:
        raise OutputError("record needs -o FILE", "name where the trace goes: gradtrace record -o FILE.json SCRIPT")
    keep = kept_passes(number)
    work = find(source, arguments, module=module)
    target = Target(output)
    recorded = work.record(keep, calls=calls, numeric=numeric)
    trace = recorded.trace
    target.write(tracefile.dumps(trace))
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    say(f"wrote {output}: {len(trace.passes):,} of {recorded.made:,} backward passes, {nodes:,} nodes")
    if not trace.passes and not recorded.exit_code:
        raise NothingRecordedError("the script made no backward pass", "call backward() or autograd.grad()")
    raise typer.Exit(recorded.exit_code)
