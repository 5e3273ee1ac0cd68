"""A recorder that also keeps the calls of the forward: for formulas, and for running them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.backward.raw_pass import RawPass
from gradtrace.recording.isolation.torch_compile import Aside
from gradtrace.recording.recorder import LAST, Options, Recorder
from gradtrace.recording.replay.calls import Scene
from gradtrace.recording.replay.gradient_copies import Arrivals
from gradtrace.recording.replay.tape import Tape

if TYPE_CHECKING:
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.isolation.patch import Removable

__all__ = ["TapedRecorder", "recorder"]

MOST_LINKED = 3  # passes before the last: a fourth derivative has three below it


def recorder(options: Options, folders: tuple[str, ...]) -> Recorder:
    """Return the recorder that these options need."""
    taped = options.calls or options.numeric
    return TapedRecorder(options, folders) if taped else Recorder(options, folders)


class TapedRecorder(Recorder):
    """Records passes, the calls that made their graphs and, if numeric, copies of all that finite differences need."""

    def __init__(self, options: Options, folders: tuple[str, ...] = ()) -> None:
        super().__init__(options, folders)
        self._tape = Tape(copying=options.numeric)
        self._pending: list[tuple[Scene | None, Arrivals | None]] = []  # a pass can be made inside another

    def _parts(self) -> list[Removable]:
        parts = super()._parts()
        for part in parts:
            if isinstance(part, Aside):
                part.add(self._tape)
        return [*parts, self._tape]

    def _run(self, call: EngineCall, index: int) -> Any:
        scene = self._tape.scene(call, self.spaces) if self._keeps(index) else None
        numeric, brief = self.options.numeric, self.options.calls
        self._pending.append((scene, Arrivals(call, numeric=numeric, brief=brief) if scene else None))
        number = sequence_number()
        leaves = self._tape.without_grad(call)
        result = super()._run(call, index)
        found = [(leaf, leaf.grad) for leaf in leaves] if call.accumulates else zip(call.inputs, result, strict=True)
        self._tape.note_grad(call, list(found), number)
        self._tape.forget(scene, number)
        return result

    def _finish(self, raw: RawPass, *, whole: bool) -> None:
        raw.scene, raw.arrivals = self._pending.pop()
        super()._finish(raw, whole=whole)

    def _keep(self, raw: RawPass) -> None:
        linked = self.options.linked and self.options.keep == LAST
        before = [graph for graph in self._kept if isinstance(graph, RawPass) and graph.made] if linked else []
        super()._keep(raw)
        self._kept = [*before[-MOST_LINKED:], *self._kept]
