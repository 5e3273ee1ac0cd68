"""A recorder that also keeps the calls of the forward: for formulas, and for running them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.backward.raw_pass import RawPass
from gradtrace.recording.isolation.torch_compile import DynamoGuard
from gradtrace.recording.recorder import LAST, Options, Recorder
from gradtrace.recording.replay.calls import TapedGraph
from gradtrace.recording.replay.comparisons import compare
from gradtrace.recording.replay.forward_calls import forward_calls
from gradtrace.recording.replay.gradient_copies import GradientCopies
from gradtrace.recording.replay.kept_values import held
from gradtrace.recording.replay.tape import Tape

if TYPE_CHECKING:
    from array import array

    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.isolation.patch import Removable
    from gradtrace.recording.user_code.source_text import Sources

__all__ = ["TapedRecorder", "recorder"]

MOST_LINKED = 3  # passes before the last: a fourth derivative has three below it


def recorder(options: Options, folders: tuple[str, ...]) -> Recorder:
    """Return the recorder for these options."""
    taped = options.calls or options.numeric
    return TapedRecorder(options, folders) if taped else Recorder(options, folders)


class TapedPass(NamedTuple):
    """Calls of the forward of one pass, and copies of its gradients: what formulas and finite differences need."""

    scene: TapedGraph
    arrivals: GradientCopies

    def fields(self, ids: dict[int, str], numbers: array[int], sources: Sources) -> dict[str, Any]:
        """Return the pass's forward calls, the values kept and, if asked for, the comparisons."""
        scene, arrivals = self.scene.on_host(), self.arrivals.on_host()
        return {
            "forward": forward_calls(scene, ids, list(numbers)),
            "held": held(scene, arrivals, ids),
            "comparisons": compare(scene, arrivals, ids, sources) if arrivals.numeric else (),
        }


class TapedRecorder(Recorder):
    """Records passes, the calls of their graphs and, if numeric, copies of the values for finite differences."""

    def __init__(self, options: Options, folders: tuple[str, ...] = ()) -> None:
        super().__init__(options, folders)
        self._tape = Tape(copying=options.numeric)
        self._pending: list[tuple[TapedGraph | None, GradientCopies | None]] = []  # a stack: passes nest

    def _parts(self) -> list[Removable]:
        parts = super()._parts()
        for part in parts:
            if isinstance(part, DynamoGuard):
                part.add(self._tape)
        return [*parts, self._tape]

    def _run(self, call: EngineCall, index: int) -> Any:
        spaces = self._seeded_by.spaces if self._seeded_by is not None else ()
        scene = self._tape.scene(call, spaces) if self._keeps(index) else None
        numeric, brief = self.options.numeric, self.options.calls
        self._pending.append((scene, GradientCopies(call, numeric=numeric, brief=brief) if scene else None))
        number = sequence_number()
        leaves = self._tape.without_grad(call)
        result = super()._run(call, index)
        found = [(leaf, leaf.grad) for leaf in leaves] if call.accumulates else zip(call.inputs, result, strict=True)
        self._tape.note_grad(call, list(found), number)
        self._tape.forget(scene, number)
        return result

    def _finish(self, raw: RawPass, *, whole: bool) -> None:
        scene, arrivals = self._pending.pop()
        extra = None if scene is None or arrivals is None else TapedPass(scene, arrivals)
        super()._finish(raw._replace(extra=extra), whole=whole)

    def _keep(self, raw: RawPass) -> None:
        linked = self.options.linked and self.options.keep == LAST
        before = [graph for graph in self._kept if isinstance(graph, RawPass) and graph.run.made_by] if linked else []
        super()._keep(raw)
        self._kept = [*before[-MOST_LINKED:], *self._kept]
