"""Observer of a pass, through which the checks' facts are collected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.backward.raw_pass import GraphSnapshot, RawFact, RawPass
    from gradtrace.recording.user_code.variable_names import Names

__all__ = ["PassObserver"]


class PassObserver(Protocol):
    """Observes one backward pass: before the engine runs, at each node that sends non-finite values, and afterwards."""

    def before(self, snapshot: GraphSnapshot, call: EngineCall, graph: Walk | None, names: Names) -> None:
        """Called before a pass that is kept."""

    def before_leaves(self, pass_index: int, call: EngineCall, graph: Walk) -> None:
        """Called before a pass of which only a row for each leaf is kept."""

    def broken(self, graph: Walk, position: int, arrived: Any, sent: Any, *gradients: Any) -> None:
        """Called at a node that may have sent NaN or infinity, with the measurements and the gradients themselves."""

    def after(self, raw: RawPass, call: EngineCall, graph: Walk | None, *, whole: bool) -> tuple[RawFact, ...]:
        """Return the facts of a pass after its engine has returned or raised; ``whole``: the pass is kept."""

    def returned(self, raw: RawPass, call: EngineCall, result: Any) -> None:
        """Called with the gradients that the engine returned."""
