"""Structure of the graph below tensors, without running it: ops, edges, and the names of leaves and outputs."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.recording.autograd.graph import require_graph, root_edge, walk
from gradtrace.recording.user_code.variable_names import Names, namespaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__all__ = ["Structure", "structure"]


class Structure(NamedTuple):
    """Nodes by position: their ops; the edges, in backward direction; names and shapes of leaves and outputs.

    ``leaves`` and ``outputs`` hold the name and shape of a tensor; outputs are at the position of their node.
    """

    ops: list[str]
    edges: list[tuple[int, int]]
    leaves: dict[int, tuple[str, tuple[int, ...]]]
    outputs: list[tuple[int, str, tuple[int, ...]]]


def structure(outputs: Sequence[torch.Tensor], spaces: Sequence[dict[str, Any]] = ()) -> Structure:
    """Return the graph below ``outputs``, whose saved tensors may be freed; raises TensorError if one has no graph."""
    require_graph(outputs)
    graph = walk([root_edge(output) for output in outputs])
    names = Names(chain(spaces, namespaces(sys._getframe(1)))).by_id()

    def told(tensor: torch.Tensor) -> tuple[str, tuple[int, ...]]:
        return names.get(id(tensor), ""), tuple(tensor.shape)

    leaves = {position: told(graph.nodes[position].variable) for position in graph.leaves}
    ends = [(position, *told(output)) for (position, _), output in zip(graph.roots, outputs, strict=True)]
    return Structure(graph.ops, [(link[0], link[2]) for link in graph.links], leaves, ends)
