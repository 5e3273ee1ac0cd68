"""Calls of autograd's engine, with their arguments by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge

from gradtrace.recording.autograd.graph import Walk, root_edge, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

__all__ = ["EngineCall", "graph_of"]


class EngineCall:
    """Arguments of one call of autograd's engine, by name; calling the object runs the engine with them."""

    def __init__(self, engine: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._engine = engine
        self.frame: FrameType | None = None
        self._args = args
        self._kwargs = kwargs
        self.outputs: tuple[torch.Tensor | GradientEdge, ...] = tuple(args[0])
        self.seeds: Sequence[torch.Tensor | None] = args[1]
        self.retains_graph: bool = bool(args[2])
        self.create_graph: bool = bool(args[3])
        self.inputs: tuple[torch.Tensor | GradientEdge, ...] = tuple(args[4])
        self.accumulates: bool = bool(kwargs.get("accumulate_grad"))

    def wrap(self, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace the engine by ``around``, which wraps it."""
        self._engine = around(self._engine)

    def __call__(self) -> Any:
        """Run the engine as the script asked for it, but in this thread alone.

        Otherwise the nodes of a device run in a thread of the engine, where sequence numbers start at 0 again, modes
        and modules are not watched, and the frames of the script are missing. Python hooks run one at a time in any
        case.
        """
        is_enabled = torch._C._is_multithreading_enabled()
        try:
            torch._C._set_multithreading_enabled(False)  # noqa: FBT003
            return self._engine(*self._args, **self._kwargs)
        finally:
            torch._C._set_multithreading_enabled(is_enabled)


def graph_of(call: EngineCall) -> Walk | None:
    """Return the graph that the engine is called for, None if an output has none."""
    try:
        return walk([root_edge(output) for output in call.outputs])
    except RuntimeError:
        return None
