"""Comparison of a function's backward with finite differences, without a script, for api.gradcheck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradtrace.errors import TensorError
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay.calls import tensors_in
from gradtrace.recording.replay.taped_recorder import TapedRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradtrace.model import Trace

__all__ = ["checked"]


def checked(fn: Callable[..., Any], inputs: Sequence[Any], folder: str) -> Trace:
    """Return the trace of one pass through ``fn``, with comparisons; no ``.grad`` is touched.

    The outputs are weighted with random numbers of a fixed seed: with ones, errors that sum to zero would be hidden.
    Raises TensorError where no output depends on an input that requires grad.
    """
    leaves = [tensor for tensor in tensors_in(tuple(inputs)) if tensor.requires_grad]
    if not leaves:
        raise TensorError("no input requires grad", "pass tensors with requires_grad=True")
    with TapedRecorder(Options(numeric=True), (folder,)) as recorder:
        outputs = [tensor for tensor in tensors_in(_seen(fn)(*inputs)) if tensor.requires_grad]
        if not outputs:
            raise TensorError("no output depends on an input that requires grad", "is it computed under no_grad?")
        named = {f"inputs[{index}]": value for index, value in enumerate(inputs)}
        with recorder.seeding((named,)):
            torch.autograd.grad(outputs, leaves, [_weights(output) for output in outputs], allow_unused=True)
    return recorder.trace


def _seen(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as patched for the tape: ``apply`` of a custom Function may be bound before the patch."""
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, torch.autograd.Function) and fn.__name__ == "apply":
        return owner.apply
    return fn


def _weights(output: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(output.shape, generator=generator, dtype=torch.float64) + 0.5
    return random.to(output)
