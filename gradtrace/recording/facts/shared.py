"""State shared by the torch calls of all threads: parameters used and frozen, graphs cut, memory changed."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import Parameter

from gradtrace.recording.facts.grad_aliases import Aliases
from gradtrace.recording.facts.kept_graphs import KeptGraphs
from gradtrace.recording.facts.lost_graph import Cuts, forget_oldest
from gradtrace.recording.facts.nonfinite_births import Births
from gradtrace.recording.facts.training_steps import TrainingSteps
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from gradtrace.recording.forward.thread_logs import ThreadLog

__all__ = ["UNSEEN", "Shared", "UnseenChange"]

UNSEEN = 1_000  # tensors that came from .data, and changes of them
_CHANGES = 20_000  # latest in-place calls that are kept
_LINES = 10  # lines that read a missing .grad


class UnseenChange(NamedTuple):
    """A change in place through ``.data``, which raises no version: the memory, and the nodes made until then."""

    memory: int
    number: int
    name: str
    place: Place | None


class Shared:
    """State of all threads: parameters used, graphs cut, gradients taken, memory changed."""

    def __init__(self) -> None:
        self.used: dict[int, weakref.ref[torch.Tensor]] = {}
        self.kept = KeptGraphs()
        self.steps = TrainingSteps()
        self.unseen: deque[UnseenChange] = deque(maxlen=UNSEEN)
        self.data: dict[int, weakref.ref[torch.Tensor]] = {}  # tensors that came from .data
        self.graphed: dict[int, weakref.ref[torch.Tensor]] = {}  # those of them used by a call with a graph
        self.cuts = Cuts()
        self.aliases = Aliases()
        self.births = Births()
        self.is_stepping = False  # an optimizer
        self.changes: deque[tuple[tuple[int, ...], int, str, Place | None]] = deque(maxlen=_CHANGES)
        self.frozen: dict[int, tuple[weakref.ref[torch.Tensor], Place | None]] = {}
        self.missing_grads: dict[Place | None, Place | None] = {}  # place of the read: place where the tensor was made

    def freeze(self, tensor: torch.Tensor) -> None:
        """Note the place where a parameter was set not to require grad."""
        if type(tensor) is Parameter:
            self.frozen[id(tensor)] = weakref.ref(tensor), find_user_place(sys._getframe(1))[0]
            forget_oldest(self.frozen, _CHANGES)

    def note_missing_grad(self, tensor: torch.Tensor, log: ThreadLog) -> None:
        """Note a read of the missing ``.grad`` of a tensor that is no leaf."""
        place, library = find_user_place(sys._getframe(1))
        if library is None and not tensor.retains_grad and len(self.missing_grads) < _LINES:
            call = log.calls.call(tensor.grad_fn._sequence_nr())  # type: ignore[union-attr]
            self.missing_grads.setdefault(place, call[2] if call is not None else None)

    def change_of(self, tensor: torch.Tensor, was: int | None) -> tuple[str, Place | None] | None:
        """Return the first in-place call that raised the version of this tensor's memory above ``was``."""
        memory = tensor.untyped_storage().data_ptr()
        found = None
        for pointers, version, name, place in reversed(self.changes):
            if memory in pointers:
                if was is not None and 0 <= version <= was:
                    break
                found = name, place
        return found
