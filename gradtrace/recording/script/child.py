"""Child process of a recorded script: recorded from its import of torch to its end, in a separate file."""

from __future__ import annotations

import atexit
import multiprocessing.process
import multiprocessing.util
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from gradtrace import tracefile
from gradtrace.errors import GradtraceError
from gradtrace.processes.children import inherited_options
from gradtrace.processes.journal import Journal
from gradtrace.processes.process import Process, file_name, with_part
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay import taped_recorder
from gradtrace.recording.script.crash import note_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import Trace
    from gradtrace.processes.children import ChildOptions

__all__ = ["begin"]

_FIRST = 0  # priority of our finalizer in multiprocessing, whose processes skip atexit


def begin() -> None:
    """Record this process until it ends, unless it is a command of gradtrace."""
    options = inherited_options()
    if options is not None and "gradtrace.cli" not in sys.modules:
        child = _Child(options)
        atexit.register(child.end)
        # Called in each process that multiprocessing starts, with any start method.
        multiprocessing.util.register_after_fork(child, _Child.end_with_process)
        child.end_with_process()


class _Child:
    """Recording of this process."""

    def __init__(self, options: ChildOptions) -> None:
        self._options = options
        self._ended: set[int] = set()
        keep: frozenset[int] | range | None = None if options.keep is None else frozenset(options.keep)
        keep = range(options.every, sys.maxsize, options.every) if options.every else keep
        wanted = Options(keep=keep, calls=options.calls, numeric=options.numeric, facts=True, journal=self._save)
        self._journals: dict[int, Journal] = {}
        self._recorder = taped_recorder.recorder(wanted, (os.getcwd(),))
        self._recorder.__enter__()

    def end_with_process(self) -> None:
        """End the recording when multiprocessing ends the process."""
        multiprocessing.util.Finalize(None, self.end, exitpriority=_FIRST)

    def _save(self, trace_until_now: Callable[[], Trace]) -> None:
        """Write the passes recorded so far, as this process may be killed."""
        process = os.getpid()
        if process not in self._journals:
            self._journals[process] = Journal(lambda trace: self._name(trace) if self._is_wanted(trace) else "")
        self._journals[process].passed(trace_until_now)

    def end(self) -> None:
        """End the recording and write the file if there was a pass; at most once in each process."""
        if os.getpid() in self._ended:
            return
        self._ended.add(os.getpid())
        self._recorder.__exit__()
        error = _error_of_end()
        if isinstance(error, Exception):
            note_error(self._recorder, error)
        self._recorder.command = tuple(sys.argv)
        trace = self._recorder.trace
        if trace.made and self._is_wanted(trace):
            try:
                tracefile.save(trace, self._name(trace))
            except GradtraceError as problem:
                with suppress(OSError, ValueError):
                    sys.stderr.write(f"gradtrace: {problem}\n")

    def _is_wanted(self, trace: Trace) -> bool:
        ranks = self._options.ranks
        return not ranks or trace.world is None or trace.world.ranks[0] in ranks

    def _name(self, trace: Trace) -> str:
        """Return the name of the file: with the rank, or else the number given by multiprocessing or the system."""
        if trace.world is not None:
            world = trace.world
            return file_name(self._options.output, Process(world.ranks[0], world.size, world.hosts[0], world.restarts))
        identity = multiprocessing.process.current_process()._identity
        part = f"child{'-'.join(map(str, identity))}" if identity else f"pid{os.getpid()}"
        return with_part(file_name(self._options.output, Process()), part)


def _error_of_end() -> BaseException | None:
    """Return the exception that ends this process: python's last one, or that which multiprocessing is handling.

    Torch's spawn makes an exit of it, behind which it stands.
    """
    raised = sys.exc_info()[1]
    if isinstance(raised, SystemExit) and raised.__traceback__ is not None:
        trace = raised.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        if trace.tb_frame.f_globals.get("__name__") == "torch.multiprocessing.spawn":
            return raised.__context__
    return raised or getattr(sys, "last_value", None)
