"""``gradtrace record``: save the backward passes of a script."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from gradtrace import tracefile
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import Module, RecordedPasses, Script, is_recorded_pass, recorded_passes
from gradtrace.cli.output import Target, busy, say
from gradtrace.cli.source import Recorded, find
from gradtrace.errors import NothingRecordedError, OutputError, ScriptError
from gradtrace.model import Trace
from gradtrace.processes.children import ChildOptions, has_children, recorded_children
from gradtrace.processes.journal import Journal
from gradtrace.processes.process import Process, file_name, read_ranks
from gradtrace.wording.nodes import first_few

__all__ = ["record"]

LATE = (Late("output", ("-o", "--output"), lambda _: True), Late("pass", ("--pass",), is_recorded_pass))
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="The file to write (.json or .json.gz); - is stdout."),
]
Calls = Annotated[bool, typer.Option("--calls", help="Also save what gradtrace explain needs for its formulas.")]
Ranks = Annotated[
    str, typer.Option("--ranks", metavar="N,N", help="Of several processes, record only these, as in 0,3 or 0-3.")
]
Children = Annotated[
    bool, typer.Option("--children", help="Also record the Python processes that SCRIPT starts, each in its own file.")
]
Weights = Annotated[
    int, typer.Option("--weights", metavar="N", min=0, help="Measure weights and updates at every N-th optimizer step.")
]
Numeric = Annotated[bool, typer.Option("--numeric", help="Also compare the gradients with finite differences.")]


def record(
    context: typer.Context,
    source: Script,
    *,
    output: Output = None,
    number: RecordedPasses = "all",
    module: Module = False,
    calls: Calls = False,
    numeric: Numeric = False,
    ranks: Ranks = "",
    children: Children = False,
    weights: Weights = 0,
) -> None:
    """Run SCRIPT and save its backward passes to a file, to draw, check, explain or compare them later.

    Arguments after SCRIPT are passed to it.
    """
    late, arguments = take_late(context, [option for option in LATE if output is None or option.key != "output"])
    output, number = output or late.get("output"), late.get("pass", number)
    if output is None:
        raise OutputError("record needs -o FILE", "for example: gradtrace record -o run.json SCRIPT")
    keep, chosen = recorded_passes(number), read_ranks(ranks) if ranks else frozenset[int]()
    work = find(source, arguments, module=module, first=min(chosen, default=0))
    if work.trace is not None:
        raise ScriptError(f"{source!r} is a saved trace, not a script", f"draw it with: gradtrace render {source}")
    if chosen and work.process.is_one_of_many and work.process.rank not in chosen:
        raise typer.Exit(work.run_plainly())
    _check_name(output, work.process)
    files = _Files(output, work.process)
    target = Target(files.first)
    options = ChildOptions(files.pattern, tuple(chosen), _chosen_one_by_one(keep), calls, numeric, _step(keep))
    with recorded_children(options) if children else nullcontext():
        recorded = work.record(keep, calls=calls, numeric=numeric, weights=weights, journal=files.journal())
    others = files.of_children() if children else []
    _write(recorded, files, target, others)
    if not recorded.made and not recorded.exit_code and not others:
        raise NothingRecordedError("the script made no backward pass", _advice(children=children))
    asked = keep if isinstance(keep, frozenset) and number != "none" else frozenset[int]()
    raise typer.Exit(recorded.numbered(asked)[1])


def _chosen_one_by_one(keep: frozenset[int] | range | None) -> tuple[int, ...] | None:
    return tuple(keep) if isinstance(keep, frozenset) else None


def _step(keep: frozenset[int] | range | None) -> int:
    return keep.step if isinstance(keep, range) else 0


class _Files:
    """Names of the trace's file, by the process that this is, which may join others later than it begins."""

    def __init__(self, output: str, process: Process) -> None:
        self.first = file_name(output, process)
        self.pattern = output if output == "-" else os.path.abspath(output)  # noqa: PTH100 - the script may change it
        self._process = process
        self._start = time.time()

    def last(self, trace: Trace) -> str:
        """Return the name of the file, now that the trace tells the rank."""
        world, process = trace.world, self._process
        if world is not None and (world.size, world.ranks[0]) != (process.world, process.rank):
            return file_name(self.pattern, Process(world.ranks[0], world.size, process.host, world.restarts))
        return self.first

    def journal(self) -> Callable[[Callable[[], Trace]], None] | None:
        """Return the writer of passes of one of several processes, any of which may be killed."""
        name = file_name(self.pattern, self._process)
        return Journal(lambda _: name).passed if self._process.is_one_of_many else None

    def of_children(self) -> list[str]:
        """Return the files that child processes have written meanwhile."""
        path = Path(self.pattern)
        stem = path.name.partition(".")[0]
        beside = path.parent.glob(f"{glob.escape(stem)}.*") if path.parent.is_dir() else ()
        mine = os.path.abspath(self.first)  # noqa: PTH100
        made = (p for p in beside if p.stat().st_mtime >= self._start - 1 and tracefile.begins_as_trace(p))
        return sorted(str(p) for p in made if str(p) != mine)


def _write(recorded: Recorded, files: _Files, target: Target, others: list[str]) -> None:
    trace = recorded.trace
    if others:
        count = f"{len(others):,} process{'es' if len(others) > 1 else ''}"
        say(f"{count} that the script started wrote {first_few(map(os.path.relpath, others))}")
    if others and not trace.passes:
        return
    name = files.last(trace)
    target = target if name == target.name else Target(name)
    with busy("saving"):
        target.write(tracefile.dumps(trace))
    nodes = sum(len(graph.nodes) for graph in trace.passes)
    say(f"wrote {target.name}: {len(trace.passes):,} of {recorded.made:,} backward passes, {nodes:,} nodes")


def _advice(*, children: bool) -> str:
    """Return the hint for a script without a pass, which may leave backward to child processes."""
    if not children and has_children():
        return "it started other processes: to record these, add --children"
    if children and has_children():
        return (
            "nor did the processes that it started, but for those that were forked: start them by spawn or forkserver"
        )
    return "call backward() or autograd.grad()"


def _check_name(output: str, process: Process) -> None:
    """Raise OutputError if one of several processes can't have its own file."""
    if output == "-" and process.is_one_of_many:
        raise OutputError(f"{process.world} processes can't all write to stdout", "name a file: -o FILE.json")
