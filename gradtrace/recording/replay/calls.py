"""Taped calls and the tensors in them: Key, Ref, TapedCall, TapedGraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gradtrace.recording.stats.device import DEVICE_FULL, NotMeasuredError, give_up, is_here, require_measurable
from gradtrace.recording.stats.kinds import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


__all__ = ["GRAD", "Key", "Ref", "TapedCall", "TapedGraph", "copied", "on_host", "references"]

GRAD = "torch.autograd.grad"


class Key(NamedTuple):
    """A tensor: the ``output`` of the node with sequence number ``number``; or, outside, its serial and -1."""

    number: int
    output: int


class Ref(NamedTuple):
    """Reference to a tensor among the arguments of a call."""

    key: Key


class TapedCall(NamedTuple):
    """A call: it made the nodes from ``start`` up to ``end``; arguments hold a Ref for each tensor."""

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Key, ...]
    start: int
    end: int
    random: bool = False


class TapedGraph(NamedTuple):
    """Tape of one pass: its graph's calls; serials of its leaves, by position; names by serial."""

    calls: list[TapedCall]
    leaves: dict[int, int]
    names: dict[int, str]
    held: dict[int, Measured]
    copies: dict[Key, torch.Tensor]

    def on_host(self) -> TapedGraph:
        """Return it with all copies in CPU memory, without those that a device has lost."""
        found = {key: on_host(copy) for key, copy in self.copies.items()}
        return self._replace(copies={key: copy for key, copy in found.items() if copy is not None})


def copied(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return a copy, None where the tensor's device has no memory left for it."""
    try:
        if not is_here(tensor):
            require_measurable(tensor.device)
        return tensor.detach().clone()
    except torch.OutOfMemoryError:
        give_up(DEVICE_FULL)
    except NotMeasuredError:
        pass
    return None


def on_host(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """Return a copy in CPU memory, None if the device has lost it."""
    try:
        return None if tensor is None else tensor.cpu()
    except RuntimeError:
        return None


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def references(call: TapedCall) -> Iterator[Key]:
    """Yield the keys of all tensors among a call's arguments."""
    waiting: list[Any] = [call.args, call.kwargs]
    while waiting:
        value = waiting.pop()
        if type(value) is Ref:
            yield value.key
        elif isinstance(value, dict):
            waiting += value.values()
        elif type(value) in {list, tuple}:
            waiting += value
