"""Run the SCRIPT or load the TRACE of the command line."""

# ruff: noqa: PLC0415 - torch is imported when a script is about to run, and not before

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from msgspec.structs import replace

from gradtrace.api import select
from gradtrace.checks.base import failures
from gradtrace.checks.checker import run
from gradtrace.cli.output import keep_stderr, print_findings, say, show_progress, speak_as
from gradtrace.errors import GradtraceError, NothingRecordedError, ScriptError, UnknownNameError
from gradtrace.processes.joining import joined
from gradtrace.processes.merging import is_trace_source, of_rank, ranks_of, read_all
from gradtrace.processes.process import Process, this_process

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Trace
    from gradtrace.recording.script.program import Program
    from gradtrace.recording.script.session import Progress, Session

__all__ = ["Recorded", "Work", "find", "saved_trace"]

ALONE = Process()


class Recorded(NamedTuple):
    """A trace; how many passes the script made, the exit code, and torchviz's DOT of each pass that was kept."""

    trace: Trace
    made: int
    exit_code: int = 0
    torchviz: dict[int, str] = {}  # noqa: RUF012 - nobody writes to it
    loaded: bool = False  # from a file, which does not say how many passes the script made

    def numbered(self, keep: frozenset[int]) -> tuple[list[BackwardPass], int]:
        """Return the passes of these numbers, and the exit code: 3 if the script made no pass of some number."""
        if self.loaded:
            return [select(self.trace, index) for index in sorted(keep)], self.exit_code
        chosen = [graph for graph in self.trace.passes if graph.index in keep]
        missing = sorted(keep - {graph.index for graph in chosen})
        if not missing:
            return chosen, self.exit_code
        passes = f"{self.made:,} backward pass{'' if self.made == 1 else 'es'}"
        message = f"the script made {passes}; there is no pass {', '.join(map(str, missing))}"
        if not chosen and not self.exit_code:
            raise NothingRecordedError(message)
        say(message)
        return chosen, self.exit_code or NothingRecordedError.exit_code


class Work(NamedTuple):
    """Source of a trace: one that was loaded, or a program to run with its arguments."""

    trace: Trace | None = None
    program: Program | None = None
    arguments: tuple[str, ...] = ()
    process: Process = ALONE  # in which the program runs

    def of_rank(self, rank: str | None, *, one: bool = True) -> Work:
        """Return the source with the trace of one rank: the one given, else, if one is needed, the first recorded.

        ``all`` are the ranks as one, whose graphs are joined where one is needed.
        """
        if self.trace is None:
            if rank is not None:
                raise GradtraceError("--rank is for saved traces", "record some ranks only: gradtrace record --ranks")
            return self
        ranks = ranks_of(self.trace)
        if rank is None and one and len(ranks) > 1:
            say(f"showing rank {ranks[0]} of {len(ranks)}; use --rank for another one")
        if rank == "all" or (rank is None and not one):
            return self._replace(trace=joined(self.trace)) if one and len(ranks) > 1 else self
        if rank is not None and not rank.isdecimal():
            raise UnknownNameError.of("rank", rank, (*ranks, "all"))
        return self._replace(trace=of_rank(self.trace, ranks[0] if rank is None else int(rank)))

    def run_plainly(self) -> int:
        """Run the program without recording it; return its exit code."""
        assert self.program is not None  # noqa: S101 - find() makes one or the other
        from gradtrace.recording.script.session import run_plainly

        return run_plainly(self.program, self.arguments)

    def record(
        self, keep: frozenset[int] | range | None, *, explain: bool = True, progress: Progress = None, **wanted: Any
    ) -> Recorded:
        """Return the trace, after running the program if there is one; a traceback is printed as by python.

        If the script died in backward, the error is explained below the traceback, unless ``explain`` is False.
        ``progress`` is called after each pass, see run_recorded; a terminal shows their number if it is None.
        ``wanted`` are further options of recording.recorder.Options.
        """
        if self.trace is not None:
            _explain(self.trace, asked=explain)
            return Recorded(self.trace, len(self.trace.passes), loaded=True)
        assert self.program is not None  # noqa: S101 - find() makes one or the other
        from gradtrace.recording.recorder import Options
        from gradtrace.recording.script.session import run_recorded

        options = Options(keep=keep, facts=True, **wanted)
        keep_stderr()
        process = os.getpid()
        session = run_recorded(self.program, self.arguments, options, progress or show_progress())
        with suppress(Exception):  # python flushes again at exit, and reports the error
            sys.stdout.flush()
        if os.getpid() != process:  # the script has forked, and this is the child: the parent draws
            raise typer.Exit(session.run.exit_code)
        _explain(session.trace, asked=explain)
        _tell_unseen(session.trace)
        return Recorded(session.trace, session.made, _exit_code(session), session.torchviz)


def saved_trace(name: str, rank: str | None) -> Trace:
    """Return the trace in a file or a folder: of one rank, where it is of several; raises TraceFileError."""
    work = Work(trace=read_all([name], say)).of_rank(rank)
    assert work.trace is not None  # noqa: S101 - it was given
    return work.trace


def find(name: str, arguments: list[str], *, module: bool, first: int = 0) -> Work:
    """Return the trace, script or module called ``name``; raises ScriptError or TraceFileError.

    Further traces may follow a trace: all are read as one. A program that is run as one of several processes speaks
    for all if its rank is ``first``.
    """
    if not module and is_trace_source(name):
        others = [argument for argument in arguments if not is_trace_source(argument)]
        if others:
            raise ScriptError(f"a trace takes no arguments, got {others[0]!r}", "put options before the trace")
        return Work(trace=read_all([name, *arguments], say))
    from gradtrace.recording.script.program import find_module, read_script

    process = this_process()
    speak_as(process, first)
    program = find_module(name) if module else read_script(name)
    return Work(program=program, arguments=tuple(arguments), process=process)


def _explain(trace: Trace, *, asked: bool) -> None:
    """Print what the checks say about the error that the script died of, if asked to."""
    if asked and trace.error is not None:
        failed = replace(trace, passes=tuple(graph for graph in trace.passes if graph.error))
        # Only uncaught errors: with others, the script goes on as without gradtrace.
        print_findings([finding for finding in run(failed, names=failures()) if finding.severity == "error"])


def _tell_unseen(trace: Trace) -> None:
    """Print which passes could not be recorded."""
    for fact in trace.facts:
        if fact.kind == "distributed-autograd":
            times = "once" if fact.data["passes"] == 1 else f"{fact.data['passes']} times"
            say(f"torch.distributed.autograd.backward() ran {times} and was not recorded: RPC has an engine of its own")


def _exit_code(session: Session) -> int:
    """Return the script's exit code; 1 if it was fine and the pass that gradtrace made for it was not."""
    if session.seeded:
        names = ", ".join(name or "an unnamed tensor" for name in session.seeded)
        say(f"the script calls no backward(); seeded {names} with ones, no .grad was touched")
    if session.trace.error is not None and session.run.error is None:
        say(f"{session.trace.error.type} in the backward that gradtrace made: {session.trace.error.message}")
        return 1
    return session.run.exit_code
