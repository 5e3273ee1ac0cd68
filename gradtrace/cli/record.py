"""``gradtrace record``: save the backward passes of a script."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from gradtrace import tracefile
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import Module, PassNumber, Script, is_pass, kept_passes
from gradtrace.cli.output import Target, busy, say
from gradtrace.cli.source import Work, find
from gradtrace.errors import NothingRecordedError, OutputError, ScriptError
from gradtrace.journal import Journal
from gradtrace.model import Trace
from gradtrace.processes import Process, file_name, read_ranks

__all__ = ["record"]

LATE = (Late("output", ("-o", "--output"), lambda _: True), Late("pass", ("--pass",), is_pass))
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="The file to write (.json or .json.gz); - is stdout."),
]
Calls = Annotated[bool, typer.Option("--calls", help="Also save what gradtrace explain needs for its formulas.")]
Ranks = Annotated[
    str, typer.Option("--ranks", metavar="N,N", help="Of several processes, record only these, as in 0,3 or 0-3.")
]
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
    ranks: Ranks = "",
) -> None:
    """Run SCRIPT and save its backward passes to a file, to draw, check, explain or compare them later.

    Arguments after SCRIPT are passed to it.
    """
    late, arguments = take_late(context, [option for option in LATE if output is None or option.key != "output"])
    output, number = output or late.get("output"), late.get("pass", number)
    if output is None:
        raise OutputError("record needs -o FILE", "for example: gradtrace record -o run.json SCRIPT")
    keep, chosen = kept_passes(number), read_ranks(ranks) if ranks else frozenset[int]()
    work = find(source, arguments, module=module, first=min(chosen, default=0))
    if work.trace is not None:
        raise ScriptError(f"{source!r} is a saved trace, not a script", f"draw it with: gradtrace render {source}")
    if chosen and work.process.rank not in chosen:
        raise typer.Exit(work.run_plainly())
    _check_name(output, work.process)
    target = Target(file_name(output, work.process))
    recorded = work.record(keep, calls=calls, numeric=numeric, journal=_journal(output, work))
    trace = recorded.trace
    name = _final_name(output, trace, work.process)
    if name != target.name:
        target = Target(name)
    with busy("saving"):
        target.write(tracefile.dumps(trace))
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    say(f"wrote {target.name}: {len(trace.passes):,} of {recorded.made:,} backward passes, {nodes:,} nodes")
    if not recorded.made and not recorded.exit_code:
        raise NothingRecordedError("the script made no backward pass", "call backward() or autograd.grad()")
    raise typer.Exit(recorded.numbered(keep or frozenset())[1])


def _check_name(output: str, process: Process) -> None:
    """Raise OutputError where one of several processes can't have a file of its own."""
    if output == "-" and process.is_one_of_many:
        raise OutputError(f"{process.world} processes can't all write to stdout", "name a file: -o FILE.json")


def _final_name(output: str, trace: Trace, process: Process) -> str:
    """Return the name of the trace's file; of a process that joined others later than it began, with its rank."""
    world = trace.world
    if world is not None:
        process = Process(world.ranks[0], world.size, process.host, world.restarts)
    return file_name(output, process)


def _journal(output: str, work: Work) -> Callable[[Callable[[], Trace]], None] | None:
    """Return what writes each pass of one of several processes, any of which may be killed because another failed."""
    if not work.process.is_one_of_many:
        return None
    return Journal(os.path.abspath(file_name(output, work.process))).passed  # noqa: PTH100 - as text
