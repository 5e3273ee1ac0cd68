"""Names of the tensors that the stages of a pipeline exchange: one pass for each microbatch, on every stage.

``sent: stage 0 → 1, microbatch 2`` is an output on the sender, ``received: stage 0 → 1, microbatch 2`` a leaf on the
receiver. The gradient that arrives at the leaf seeds the pass of the output.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["PIPELINES", "exchanged", "is_shape_inference"]

PIPELINES = "torch.distributed.pipelining.stage"
_DEEPEST = 12  # frames between the engine's call and the stage


def exchanged(frame: FrameType | None, variables: Callable[[FrameType], dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the tensors that the stage calling the engine has sent and received, by name."""
    found = _caller(frame, "backward_one_chunk")
    if found is not None:
        with suppress(AttributeError, KeyError, TypeError):  # other versions of PyTorch store them elsewhere
            return dict(_named(variables(found)))
    return {}


def is_shape_inference(frame: FrameType | None) -> bool:
    """Tell whether a stage runs backward only to infer the shapes of gradients, on uninitialized memory."""
    return PIPELINES in sys.modules and _caller(frame, "_backward_metadata_inference") is not None


def _caller(frame: FrameType | None, name: str) -> FrameType | None:
    """Return the nearest frame that runs this function of a stage."""
    for _ in range(_DEEPEST):
        if frame is None:
            return None
        if frame.f_code.co_name == name and frame.f_globals.get("__name__") == PIPELINES:
            return frame
        frame = frame.f_back
    return None


def _named(variables: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    stage, chunk, given = variables["self"], variables["bwd_chunk_id"], variables["bwd_kwargs"]
    index = stage.stage_index
    received = [info for info in stage.args_recv_info[chunk] if getattr(info, "source", None) is not None]
    for at, info in enumerate(received):
        yield f"received: {_way(info.source, index, chunk, at if len(received) > 1 else None)}", info.buffer
    outputs = () if stage.is_last else given["stage_output"]
    for at, output in enumerate(outputs):
        yield f"sent: {_way(index, index + 1, chunk, at if len(outputs) > 1 else None)}", output


def _way(source: int, target: int, chunk: int, at: int | None) -> str:
    return f"stage {source} → {target}, microbatch {chunk}" + ("" if at is None else f"[{at}]")
