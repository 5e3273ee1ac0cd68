"""``gradtrace record``: save the backward passes of a script."""

from __future__ import annotations

from typing import Annotated

import typer

from gradtrace import tracefile
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import Module, PassNumber, Script, is_pass, kept_passes
from gradtrace.cli.output import Target, busy, say
from gradtrace.cli.source import find
from gradtrace.errors import NothingRecordedError, OutputError, ScriptError

__all__ = ["record"]

LATE = (Late("output", ("-o", "--output"), lambda _: True), Late("pass", ("--pass",), is_pass))
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="The file to write (.json or .json.gz); - is stdout."),
]
Calls = Annotated[bool, typer.Option("--calls", help="Also save what gradtrace explain needs for its formulas.")]
Numeric = Annotated[bool, typer.Option("--numeric", help="Also compare the gradients with finite differences.")]


def record(
    context: typer.Context,
    source: Script,
    *,
    output: Output = None,
    number: PassNumber = "all",
    module: Module = False,
    calls: Calls = False,
    numeric: Numeric = False,
) -> None:
    """Run SCRIPT and save its backward passes to a file, to draw, check, explain or compare them later.

    Arguments after SCRIPT are passed to it.
    """
    late, arguments = take_late(context, [option for option in LATE if output is None or option.key != "output"])
    output, number = output or late.get("output"), late.get("pass", number)
    if output is None:
        raise OutputError("record needs -o FILE", "for example: gradtrace record -o run.json SCRIPT")
    keep = kept_passes(number)
    work = find(source, arguments, module=module)
    if work.trace is not None:
        raise ScriptError(f"{source!r} is a saved trace, not a script", f"draw it with: gradtrace render {source}")
    target = Target(output)
    recorded = work.record(keep, calls=calls, numeric=numeric)
    trace = recorded.trace
    with busy("saving"):
        target.write(tracefile.dumps(trace))
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    say(f"wrote {output}: {len(trace.passes):,} of {recorded.made:,} backward passes, {nodes:,} nodes")
    if not recorded.made and not recorded.exit_code:
        raise NothingRecordedError("the script made no backward pass", "call backward() or autograd.grad()")
    raise typer.Exit(recorded.numbered(keep or frozenset())[1])
