"""Live nodes: those that a living Python tensor leads to."""

from __future__ import annotations

import gc

import torch

from gradtrace.recording.autograd.graph import walk
from gradtrace.recording.isolation.stack_size import raise_stack_limit

__all__ = ["living_numbers"]


def living_numbers() -> set[int]:
    """Return the sequence numbers of all nodes that a living tensor leads to."""
    with torch._C.DisableTorchFunction():
        found = [_root(thing) for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
        graph = walk([(node, 0) for node in found if node is not None])
        raise_stack_limit(len(graph.nodes))
        leaves = set(graph.leaves)
        return {node._sequence_nr() for position, node in enumerate(graph.nodes) if position not in leaves}


def _root(tensor: torch.Tensor) -> torch.autograd.graph.Node | None:
    try:
        return tensor.grad_fn
    except RuntimeError:  # a tensor of torch.func
        return None
