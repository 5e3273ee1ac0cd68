"""Post-hook of a node: measures what arrived and what was sent, and notes both as one event."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch

from gradtrace.recording.autograd.counters import current_task
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.measure import measure, same_memory
from gradtrace.recording.stats.reductions import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "InFlight", "PostHook"]

Gradients = tuple[torch.Tensor | None, ...]


# One run of a node: the engine's task, the node's position, what arrived, what it sent, and its seconds.
Event = tuple[int, int, "tuple[Measured | None, ...]", "tuple[Measured | None, ...]", float | None]
# A gradient between two nodes: a weak reference, so that the engine can still reuse its memory; its version, which
# changes when another gradient is added to it; its measurement.
InFlight = tuple["ref[torch.Tensor]", int, Measured]

_HOST = {"cpu", ""}
# Gradients in flight that are remembered; a forgotten one is measured again.
_REMEMBERED = 4096


def holds_nonfinite(values: Any) -> bool:
    """Tell whether a number is not finite, or one in nested lists.

    >>> holds_nonfinite([[1.0], [float("nan")]]), holds_nonfinite(2.0)
    (True, False)
    """
    if type(values) is list:
        return any(map(holds_nonfinite, values))
    return type(values) is float and values - values != 0


def is_suspect(measured: Measured | None) -> bool:
    """Tell whether this may hold NaN or infinity."""
    found = None if measured is None else measured[1]
    if type(found) is Sums:
        return bool(found.nan or found.inf)
    return type(found) is Pending or holds_nonfinite(found)  # a device can't be read without waiting


class PythonPostHook:
    """Hook of every node, which is called with the node's position first.

    Args:
        events: list of runs, to which each run is appended.
        in_flight: gradients between two nodes, by id.
        hooks: for each position the dictionary that holds its hook; None after it ran.
        key: the hook's key there.
        roots: positions of the roots: the first of them to run sets ``task``.
    """

    def __init__(
        self,
        events: list[Event],
        in_flight: dict[int, InFlight],
        hooks: list[dict[Any, Any] | None],
        key: str,
        roots: set[int],
    ) -> None:
        self._events, self._in_flight, self._hooks, self._key, self._roots = events, in_flight, hooks, key, roots
        self.task = -1  # the engine's task of this pass
        # Called with each position that ran.
        self.on_run: Callable[[int], None] | None = None
        # Called for each node that sent non-finite or pending values: position, arrived, sent, both gradients.
        self.on_broken: Callable[..., None] | None = None
        self._last = 0.0
        self.start_clock()

    def start_clock(self) -> None:
        """Start the clock for the next node."""
        self._last = perf_counter()

    def __call__(self, position: int, sending: Gradients, arriving: Gradients) -> None:
        """Note that the node at this position ran."""
        seconds: float | None = perf_counter() - self._last
        arrived = tuple([None if grad is None else self.arrived(grad) for grad in arriving])
        first, known = (arriving[0], arrived[0]) if arriving else (None, None)
        sent: list[Measured | None] = []
        for grad in sending:
            if grad is None:
                sent.append(None)
                continue
            measured = None if known is None or first is None else same_memory(grad, first, known)
            if measured is None:
                measured = measure(grad)
            self._in_flight[id(grad)] = ref(grad), grad._version, measured
            sent.append(measured)
        if self.on_broken is not None and any(map(is_suspect, sent)):
            self.on_broken(position, arrived, sent, sending, arriving)
        number = current_task()
        if any(measured is not None and measured[0].device not in _HOST for measured in (*arrived, *sent)):
            seconds = None  # only started, not run to its end
        self._events.append((number, position, arrived, tuple(sent), seconds))
        self._close(position, number)
        self._last = perf_counter()

    def arrived(self, grad: torch.Tensor) -> Measured:
        """Return the measurement made when a gradient was sent, or measure it now."""
        sent = self._in_flight.get(id(grad))
        return sent[2] if sent is not None and sent[0]() is grad and sent[1] == grad._version else measure(grad)

    def _close(self, position: int, number: int) -> None:
        if number == self.task:
            # The node will not run again in this pass, so its hook is removed to free memory.
            hooks, self._hooks[position] = self._hooks[position], None
            if hooks is not None and len(hooks) == 1:
                hooks.clear()
            elif hooks is not None:
                hooks.pop(self._key, None)
        elif self.task < 0 and position in self._roots:
            self.task = number
        if self.on_run is not None:
            self.on_run(position)
        if len(self._in_flight) > _REMEMBERED:
            self._in_flight.clear()


PostHook: type[PythonPostHook] = PythonPostHook if NATIVE is None else NATIVE.PostHook
if NATIVE is not None:
    NATIVE.setup(task=current_task)
