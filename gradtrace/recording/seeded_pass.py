"""Seeded pass: a backward pass that gradtrace makes, its outputs seeded with ones, without touching ``.grad``."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.errors import FreedGraphError, TensorError
from gradtrace.model import FREED
from gradtrace.recording.autograd.graph import leaves_below, require_graph, root_edge, walk
from gradtrace.recording.user_code.variable_names import Names, namespaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.recording.recorder import Recorder

__all__ = ["script_outputs", "seed"]


def script_outputs(namespace: dict[str, Any]) -> list[torch.Tensor]:
    """Return the named tensors with a graph that no other named tensor depends on, in order of binding.

    A graph without leaves can't be run from here: another process computed it (``rpc_sync``).
    """
    with torch._C.DisableTorchFunction():
        candidates = [tensor for tensor, _ in Names([namespace]).with_graph if tensor.grad_fn is not None]
        candidates = [tensor for tensor in candidates if leaves_below([root_edge(tensor)[0]])]
        graph = walk([root_edge(tensor) for tensor in candidates])
    used = {(target, output) for _, _, target, output in graph.links}
    return [tensor for tensor, root in zip(candidates, graph.roots, strict=True) if root not in used]


def seed(
    recorder: Recorder, outputs: Sequence[torch.Tensor], spaces: Sequence[dict[str, Any]] = (), *, at_end: bool = False
) -> None:
    """Record a pass from ``outputs`` to their leaves, seeded with ones; the graph is retained.

    Args:
        recorder: an entered recorder.
        outputs: tensors with a graph, of any shape; each is seeded with ones of its shape.
        spaces: variables to name tensors by, before those of the calling frames.
        at_end: the script has ended, and its frames are gone.

    Raises:
        TensorError: an output has no graph.
        FreedGraphError: the graph was run before, and what it needs was freed.
    """
    require_graph(outputs)
    with torch._C.DisableTorchFunction():
        graph = walk([root_edge(output) for output in outputs])
        leaves = [graph.nodes[position].variable for position in graph.leaves]
        if not leaves:
            raise TensorError("the graph ends at no leaf here", "another process made it, or nothing requires grad")
        reachable = Names(chain(spaces, namespaces(sys._getframe(1)))).with_graph
        named = [tensor for tensor, _ in reachable if tensor.retains_grad]
        retained = [(tensor, tensor.grad) for tensor in named]
    try:
        with recorder.seeding(spaces, at_end=at_end), torch._C.DisableTorchFunction():
            ones = [torch.ones_like(output) for output in outputs]
            torch.autograd.grad(list(outputs), leaves, ones, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if FREED in str(error):
            raise FreedGraphError(
                "the graph of this tensor was freed by backward()",
                "draw it before, or call backward(retain_graph=True), or record the script: gradtrace render SCRIPT",
            ) from None
        raise
    finally:
        with torch._C.DisableTorchFunction():
            for tensor, gradient in retained:
                tensor.grad = gradient
