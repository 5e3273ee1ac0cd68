"""Session: a program run under a recorder, and a seeded pass if it makes none."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.model import ErrorInfo, Trace
from gradtrace.recording.isolation.tracebacks import strip
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay import taped_recorder
from gradtrace.recording.script.crash import note_error
from gradtrace.recording.script.program import Program, Run
from gradtrace.recording.script.recursion_limit import recursion_limit_of_script
from gradtrace.recording.script.shutdown import script_shutdown
from gradtrace.recording.script.uncaught import report
from gradtrace.recording.seeded_pass import script_outputs, seed
from gradtrace.recording.user_code.exceptions import message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.recording.recorder import Recorder

    Progress = Callable[[int, Callable[[], Trace]], None] | None

__all__ = ["Session", "run_plainly", "run_recorded"]


class Session(NamedTuple):
    """Recorded run: its trace, the number of passes made, how it ended, the seeded outputs, torchviz's DOT."""

    trace: Trace
    made: int
    run: Run
    seeded: tuple[str, ...]
    torchviz: dict[int, str]


def run_recorded(program: Program, arguments: Sequence[str], options: Options, progress: Progress) -> Session:
    """Run the program and return the recording; its exception, if it raised one, is in ``run``.

    Args:
        program: what to run.
        arguments: the program's own.
        options: what to record and keep.
        progress: called when a pass has ended, with its index and a function that returns the trace until then.
    """
    # Objects of torch and gradtrace are excluded from garbage collection, which the many objects of a recording
    # would trigger often. No object of the script exists yet.
    gc.freeze()
    with taped_recorder.recorder(options, (os.getcwd(), program.path)) as recorder:
        if progress is not None:
            recorder.on_pass = lambda index: progress(index, lambda: recorder.trace)
        recorder.command = (recorder.sources.shown(program.filename), *arguments)
        run = _run(program, arguments)
        seeded = _seed(recorder, run) if run.exit_code == 0 and recorder.count == 0 else ()
    if run.error is not None and not isinstance(run.error, SystemExit):
        note_error(recorder, run.error)
    return Session(recorder.trace, recorder.count, run, seeded, recorder.torchviz)


def run_plainly(program: Program, arguments: Sequence[str]) -> int:
    """Run the program without recording; return its exit code."""
    return _run(program, arguments).exit_code


def _run(program: Program, arguments: Sequence[str]) -> Run:
    """Run the program to its end, in python's order: its traceback is printed before its threads end."""
    with script_shutdown() as end, recursion_limit_of_script():
        run = program.run(arguments)
        strip(run.error)
        run = run._replace(exit=None if run.error is None else report(run.error))
        end()
    return run


def _seed(recorder: Recorder, run: Run) -> tuple[str, ...]:
    """Seed the script's own outputs; return their names. An error of the engine is part of the pass."""
    outputs = script_outputs(run.namespace)
    if not outputs:
        return ()
    try:
        seed(recorder, outputs, (run.namespace,), at_end=True)
    except RuntimeError as error:
        recorder.error = ErrorInfo(type(error).__name__, message_of(error))
    return tuple(node.name for node in recorder.trace.passes[-1].nodes if node.kind == "output")
