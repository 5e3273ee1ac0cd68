"""A backward that torch compiles as a whole: a hook of ours would be compiled into it.

So there is none. What arrived at a leaf is read from its ``.grad`` when all is over, and of the nodes between
there is only the graph.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradtrace.recording.statistics import measure, unmeasured

if TYPE_CHECKING:
    from gradtrace.recording.passes import EngineCall
    from gradtrace.recording.raw import RawPass
    from gradtrace.recording.walk import Walk

__all__ = ["CompiledBackward", "is_compiled"]

_NOTE = "compiled: not seen"


def is_compiled() -> bool:
    """Tell whether the engine will hand the graph to compiled autograd."""
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    return bool(module is not None and module.compiled_autograd_enabled)


class CompiledBackward:
    """Remembers which leaves had no gradient before: what these have afterwards is what arrived."""

    def __init__(self, call: EngineCall, graph: Walk) -> None:
        self._graph = graph
        leaves = {position: graph.nodes[position].variable for position in graph.leaves} if call.accumulates else {}
        self._fresh = {position: leaf for position, leaf in leaves.items() if leaf.grad is None}

    def tell(self, raw: RawPass) -> None:
        """Note what arrived at each node, as far as it can be known."""
        for position, node in enumerate(self._graph.nodes):
            if position in self._fresh:
                grad = self._fresh[position].grad
                raw.captured[position, 0] = None if grad is None else measure(grad)
            else:
                for output, made in enumerate(node._input_metadata):
                    raw.captured[position, output] = unmeasured(made, _NOTE)
