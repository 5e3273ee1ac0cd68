"""Compiled autograd: a backward that torch compiles as a whole, including any hook in it.

So no hook is set. The gradients of leaves are read from ``.grad`` when the pass has ended; the nodes between have no
numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.recording.stats.measure import measure, unmeasured

if TYPE_CHECKING:
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.stats.kinds import Measured

__all__ = ["CompiledBackward"]

_NOTE = "compiled: not seen"


class CompiledBackward:
    """Remembers which leaves had no gradient before the pass: their ``.grad`` afterwards is what arrived."""

    def __init__(self, call: EngineCall, graph: Walk) -> None:
        self._graph = graph
        leaves = {position: graph.nodes[position].variable for position in graph.leaves} if call.accumulates else {}
        self._fresh = {position: leaf for position, leaf in leaves.items() if leaf.grad is None}

    def gradients(self) -> dict[tuple[int, int], Measured | None]:
        """Return the gradient that arrived at each node, by output, as far as it is known."""
        found: dict[tuple[int, int], Measured | None] = {}
        for position, node in enumerate(self._graph.nodes):
            if position in self._fresh:
                grad = self._fresh[position].grad
                found[position, 0] = None if grad is None else measure(grad)
            else:
                for output, made in enumerate(node._input_metadata):
                    found[position, output] = unmeasured(made, _NOTE)
        return found
