"""Observer of a pass: what the checks ask beside the gradients is collected by somebody else, through this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.backward.raw_pass import GraphSnapshot, RawFact, RawPass
    from gradtrace.recording.user_code.variable_names import Names

__all__ = ["PassObserver"]


class PassObserver(Protocol):
    """Sees one backward pass: before the engine runs, at each node that sends what is not finite, and afterwards."""

    def before(self, snapshot: GraphSnapshot, call: EngineCall, graph: Walk | None, names: Names) -> None:
        """Look at a pass that is kept."""

    def before_leaves(self, pass_index: int, call: EngineCall, graph: Walk) -> None:
        """Look at a pass of which a row for each leaf is kept."""

    def broken(self, graph: Walk, position: int, arrived: Any, sent: Any, *gradients: Any) -> None:
        """Look at a node that may have sent on NaN or infinity: what was measured, and the gradients themselves."""

    def after(self, raw: RawPass, call: EngineCall, graph: Walk | None, *, whole: bool) -> tuple[RawFact, ...]:
        """Return the facts of a pass whose engine has returned or raised; ``whole``: the pass is kept."""

    def returned(self, raw: RawPass, call: EngineCall, result: Any) -> None:
        """Look at the gradients that the engine returned."""
