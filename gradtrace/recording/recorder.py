"""The recorder: while it is entered, every backward pass of this process is recorded."""

from __future__ import annotations

import itertools
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from msgspec import Struct
from msgspec.structs import replace
from torch.optim.optimizer import register_optimizer_step_pre_hook

import gradtrace
from gradtrace.model import FORMAT_VERSION, BackwardPass, ErrorInfo, Fact, Trace
from gradtrace.recording.assemble import assemble
from gradtrace.recording.autograd.counters import current_task, is_tracing
from gradtrace.recording.autograd.engine_call import EngineCall
from gradtrace.recording.backward.leaf_grads import GradReader
from gradtrace.recording.backward.leaf_series import SeriesLog
from gradtrace.recording.backward.nesting import Nesting
from gradtrace.recording.backward.pass_log import PassLog
from gradtrace.recording.backward.raw_pass import PassKind, RawPass
from gradtrace.recording.backward.run_pass import LeafKnowledge, PassContext, record_leaves, record_pass
from gradtrace.recording.backward.weight_updates import WeightUpdates
from gradtrace.recording.distributed.process_group import Membership
from gradtrace.recording.distributed.wrappers import Wrappers
from gradtrace.recording.facts.collector import Facts
from gradtrace.recording.forward.modules import ModuleHooks
from gradtrace.recording.forward.patches import function_patch, module_change_hooks, scaler_patch, thread_patch
from gradtrace.recording.forward.pause import ForwardPause
from gradtrace.recording.forward.thread_logs import RECENT, ThreadLogs
from gradtrace.recording.isolation.function_modes import insert, remove
from gradtrace.recording.isolation.patch import Patch, Registered, Removable
from gradtrace.recording.isolation.signals import DeferredSignals
from gradtrace.recording.isolation.stack_size import stack_patches
from gradtrace.recording.isolation.torch_compile import DynamoGuard
from gradtrace.recording.isolation.tracebacks import inspect_patches, traceback_patches
from gradtrace.recording.isolation.warning_lines import warning_patches
from gradtrace.recording.stats.device import Transfer, send
from gradtrace.recording.user_code.pipeline_names import is_shape_inference
from gradtrace.recording.user_code.source_text import Sources
from gradtrace.recording.user_code.variable_names import Given, KnownNames, ModulePaths

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Options", "Recorder", "versions"]


class Options(Struct, frozen=True):
    """What to record and what to keep.

    Args:
        forward: the line, module and forward value of each node, beside its gradients.
        torchviz: each pass as torchviz draws it, too.
        keep: indices of the passes to keep, from 1; None for all; an empty set for the last one only; NO_PASS for none.
        calls: the torch calls that made each graph, with their arguments, too (by a TapedRecorder).
        numeric: finite differences of these calls, too; they run again, in float64, when the trace is read.
        linked: where only the last pass is kept, also those before it whose backward made nodes.
        facts: what the checks need beside the gradients; needs ``forward``.
        weights: measure the weights and their updates at every N-th optimizer step; 0 for never.
        consume: is handed each pass, in the order in which they end; only the last is kept after that.
        at_once: hand each pass over as soon as it has ended, not some at a time.
        journal: is handed, when a pass has ended, what tells the trace until then.
    """

    forward: bool = True
    torchviz: bool = False
    keep: frozenset[int] | range | None = None
    calls: bool = False
    numeric: bool = False
    linked: bool = False
    facts: bool = False
    weights: int = 0
    consume: Callable[[BackwardPass], None] | None = None
    at_once: bool = False
    journal: Callable[[Callable[[], Trace]], None] | None = None


EVERYTHING = Options()
LAST: frozenset[int] = frozenset()
NO_PASS = frozenset({0})  # keeps no pass, only a row for each leaf
# Passes assembled together, which is faster; no more than the thread logs remember.
BATCH = RECENT
ENGINE = "_engine_run_backward"


class _SeededBy(NamedTuple):
    """Arguments of ``seeding``."""

    spaces: tuple[dict[str, Any], ...]
    at_end: bool


class Recorder:
    """Records the backward passes made while it is entered; ``trace`` tells them at any time."""

    def __init__(self, options: Options = EVERYTHING, folders: tuple[str, ...] = ()) -> None:
        self.options = options
        self.count = 0
        self._counter = itertools.count(1)  # an iterator, because two threads can ask at once
        self.command: tuple[str, ...] = ()
        self.given = Given()  # names that the caller chose
        self.error: ErrorInfo | None = None
        self.facts_of_end: tuple[Fact, ...] = ()
        self.torchviz: dict[int, str] = {}
        # Called with the index of each pass when it has ended.
        self.on_pass: Callable[[int], None] | None = None
        self._seeded_by: _SeededBy | None = None
        self._membership = Membership()
        self.sources = Sources(*folders)
        self._logs = ThreadLogs()
        self._nesting = Nesting()
        self._kept: list[BackwardPass | RawPass] = []
        self._told = 0  # how many of these are assembled
        self._handed = 0  # how many of those were handed to ``options.consume``
        self._under_way: tuple[Transfer, int] | None = None  # a transfer, and how many passes it has the numbers of
        self._keeping = RLock()  # passes end in any thread
        self._wrappers = Wrappers()
        self._facts = Facts(self._wrappers) if options.facts and options.forward else None
        self._logs.call_observer = self._facts.call_observer if self._facts is not None else None
        self._series = SeriesLog()
        self._passes = PassLog()
        self._paths = ModulePaths()
        self._known = LeafKnowledge(KnownNames(), GradReader(self._series))
        self._updates = WeightUpdates(options.weights, lambda: self._passes.steps, self._name_of)
        taped = options.calls or options.numeric  # both need each call of the forward
        self._pause = ForwardPause(self._logs, (options.keep or ()) if options.forward and not taped else ())
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        """Install patches and hooks, and start to watch this thread."""
        with ExitStack() as undo:
            for part in self._parts():
                part.install()
                undo.callback(part.uninstall)
            undo.callback(self._logs.close)
            if self.options.forward:
                mode = self._logs.here().mode
                insert(mode)
                # Not necessarily the topmost mode: the script may have left its own behind.
                undo.callback(remove, mode)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Uninstall everything."""
        self._undo.close()

    @contextmanager
    def seeding(self, spaces: Sequence[dict[str, Any]], *, at_end: bool = False) -> Iterator[None]:
        """Mark the passes made meanwhile as seeded: gradtrace makes them, not the script.

        Args:
            spaces: variables to name tensors by.
            at_end: the script has ended, and its frames are gone.
        """
        self._seeded_by = _SeededBy(tuple(spaces), at_end)
        try:
            yield
        finally:
            self._seeded_by = None

    @property
    def trace(self) -> Trace:
        """The passes recorded so far, as immutable data."""
        with self._keeping:
            self._under_way = None
            self._kept = self._assembled(len(self._kept))
        kept = sorted((p for p in self._kept if isinstance(p, BackwardPass)), key=lambda graph: graph.index)
        # A nested pass ends before the pass around it, whose index is known only then.
        parents = [self._nesting.parent(graph.index) for graph in kept]
        passes = [replace(p, parent=parent) if parent else p for p, parent in zip(kept, parents, strict=True)]
        facts = self._facts.of_run(self.sources) if self._facts is not None else ()
        facts += self.facts_of_end
        series = self._series.found()
        trace = Trace(FORMAT_VERSION, self.command, versions(), tuple(passes), series, self.error, facts)
        trace = replace(trace, pass_series=self._passes.found(), updates=self._updates.found())
        return self._membership.signed(trace)

    def _parts(self) -> list[Removable]:
        """Return everything that is installed outside of gradtrace, in order of installation."""
        logs = self._logs
        # backward() and grad() use the name imported into torch.autograd, other callers that of torch.autograd.graph.
        engines = (torch.autograd, torch.autograd.graph)
        engine = [Patch(m, ENGINE, self._recording(getattr(m, ENGINE))) for m in engines]
        scaling = [self._passes.scaling, *((self._facts.steps.scaling,) if self._facts is not None else ())]
        changes: list[Removable] = [
            *module_change_hooks(self._paths.forget),
            *self._updates.parts(),
            Registered(register_optimizer_step_pre_hook, self._passes.step),
            scaler_patch(*scaling),
        ]
        if not self.options.forward:
            return [*warning_patches(), *traceback_patches(), *inspect_patches(), *changes, *engine, *stack_patches()]
        pauses = (self._pause.pause_if_due,) if self.options.keep else ()
        called = () if self._facts is None else (self._facts.leaves.called,)
        forward = (
            function_patch(logs),
            ModuleHooks(lambda: logs.here().modules, self._wrappers.called, *called, *pauses),
        )
        traceable: list[Removable] = [
            *warning_patches(),
            *traceback_patches(),
            *inspect_patches(),
            self._pause.holding(forward),
            *(Registered(register_optimizer_step_pre_hook, pause) for pause in pauses),
            *changes,
            *(self._facts.parts() if self._facts is not None else ()),
        ]
        guard = DynamoGuard(traceable, lambda: logs.here().mode)
        return [*traceable, *engine, thread_patch(logs), *stack_patches(), guard]

    def _recording(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self._logs.closed or is_tracing() or is_shape_inference(sys._getframe(1)):
                return engine(*args, **kwargs)
            index = self.count = next(self._counter)
            self._passes.add(index, args[0])
            grads = self._known.grads
            grads.begin()
            try:
                leaves = grads.leaves(args, kwargs) if self._asks_for_rows(index) else None
                if leaves is None:
                    return self._watch(EngineCall(engine, args, kwargs), sys._getframe(1), index)
                try:
                    return engine(*args, **kwargs)
                finally:
                    grads.read(index, leaves, asked=bool(args[4]))
            finally:
                grads.end()
                self._pause.pass_ended(index)
                if self.on_pass is not None:
                    self.on_pass(index)
                if self.options.journal is not None:
                    self.options.journal(lambda: self.trace)

        return run

    def _name_of(self, parameter: torch.Tensor) -> str:
        return self._paths.name(parameter) or self._known.names.name(parameter) or ""

    def _asks_for_rows(self, index: int) -> bool:
        """Tell whether only the rows of passes are recorded, and nothing watches the forward."""
        return not self._keeps(index) and (self._pause.is_paused or not self.options.forward)

    def _watch(self, call: EngineCall, frame: FrameType, index: int) -> Any:
        # Without signals for a pass of which only a row is noted: it is noted at the end, all at once.
        with DeferredSignals(frame, signals=self._keeps(index)) as time:
            call.wrap(time.undeferred)
            call.frame = None if self._seeded_by is not None and self._seeded_by.at_end else frame
            if self._facts is not None:
                self._facts.leaves.read(self._known.grads.latest())
            return self._run(call, index)

    def _run(self, call: EngineCall, index: int) -> Any:
        self._nesting.begin(index, current_task())
        context = self._context(call, index)
        if self._keeps(index):
            return record_pass(call, context, partial(self._finish, whole=True))
        return record_leaves(call, context, self._known, partial(self._finish, whole=False))

    def _context(self, call: EngineCall, index: int) -> PassContext:
        log = self._logs.here()
        observer = self._facts.of_pass(index, log) if self._facts is not None else None
        seeded = self._seeded_by
        kind: PassKind = "seeded" if seeded is not None else "backward" if call.accumulates else "grad"
        spaces = (self.given, *(seeded.spaces if seeded is not None else ()))
        wrappers, rank, step = self._wrappers, self._membership.rank(), self._passes.steps
        return PassContext(index, kind, log, spaces, self.options.torchviz, observer, wrappers, rank, step, self._paths)

    def _keeps(self, index: int) -> bool:
        return not self.options.keep or index in self.options.keep

    def _finish(self, raw: RawPass, *, whole: bool) -> None:
        self._nesting.end(raw.pass_index, raw.run.task)
        self._series.add(raw.pass_index, raw.leaf_rows())
        with self._keeping:
            if whole:
                self._keep(raw)
            self._assemble_arrived()
        raw.log.note_pass(raw.graph.numbers, self._passes_since_assembled(raw.pass_index))

    def _keep(self, raw: RawPass) -> None:
        if self.options.keep == LAST:
            self._kept.clear()
            self._told = 0
            self.torchviz.clear()
        self._kept.append(raw)
        if raw.graph.torchviz is not None:
            self.torchviz[raw.pass_index] = raw.graph.torchviz

    def _assemble_arrived(self) -> None:
        """Assemble passes in batches when their numbers have arrived: from a device, one or two passes later."""
        waiting = len(self._kept) - self._told
        # Passes chosen by number may be far apart, and what they need of the forward is not remembered that long.
        if self._under_way is None and waiting and (self.options.keep or self.options.at_once or waiting >= BATCH):
            self._under_way = send(), len(self._kept)
        if self._under_way is not None and self._under_way[0].has_arrived:
            count, self._under_way = self._under_way[1], None
            self._kept = self._assembled(count)

    def _passes_since_assembled(self, pass_index: int) -> int:
        """Return how many of the last passes, including this one, reach back to the first that is not assembled."""
        first = self._kept[self._told] if self._told < len(self._kept) else None
        return pass_index - first.pass_index + 1 if isinstance(first, RawPass) else 0

    def _assemble(self, raw: RawPass) -> BackwardPass:
        return assemble(raw, self._logs, self._nesting, self.sources)

    def _assembled(self, count: int) -> list[BackwardPass | RawPass]:
        """Return the first ``count`` passes assembled, without those already handed to ``options.consume``."""
        kept, rest = self._kept[:count], self._kept[count:]
        told = [self._assemble(p) if isinstance(p, RawPass) else p for p in kept]
        if self.options.consume is not None:
            for graph in told[self._handed :]:
                self._handed += 1  # before the call, which may end the script
                self.options.consume(graph)
            told = told[-1:]
            self._handed = len(told)
        self._told = len(told)
        return [*told, *rest]


def versions() -> dict[str, str]:
    """Return the versions that a trace depends on."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "gradtrace": gradtrace.__version__}
