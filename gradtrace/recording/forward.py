"""Which call of the script made which node, and what its forward computed.

Nodes carry a sequence number, counted per thread. Reading the counter before and after each torch call
brackets the numbers of all nodes that the call made, composite ops included; nothing else is needed to
find a node's line later.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from gradtrace.recording.sources import Place, locate
from gradtrace.recording.statistics import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["Call", "CallLog", "ForwardMode", "Maker", "sequence_number"]

sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]


class Call(NamedTuple):
    """A torch call: the numbers of the nodes it made end before ``end``; the user's and a library's place."""

    end: int
    user: Place | None
    library: Place | None


class Maker(NamedTuple):
    """A backward node that made other nodes when it ran: its pass, position there, op and number."""

    pass_index: int
    position: int
    op: str
    number: int


class CallLog:
    """The calls that one thread made, by the sequence numbers of their nodes."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._calls: list[Call] = []
        self._values: dict[tuple[int, int], Measured] = {}
        self._makers: dict[int, Maker] = {}

    def add(self, start: int, end: int, frame: FrameType) -> None:
        """Note that the call made in ``frame`` made the nodes from ``start`` up to ``end``."""
        if self._starts and self._starts[-1] >= start:
            return  # a call of the engine, whose nodes were noted one by one as it made them
        self._starts.append(start)
        self._calls.append(Call(end, *locate(frame)))

    def add_values(self, start: int, results: Iterable[Any]) -> None:
        """Measure those results whose node is not older than ``start``."""
        for result in results:
            if isinstance(result, torch.Tensor):
                node = result.grad_fn
                if node is not None and (number := node._sequence_nr()) >= start:
                    self._values[number, result.output_nr] = measure(result)
            elif isinstance(result, (tuple, list)):
                self.add_values(start, result)

    def add_made(self, start: int, end: int, maker: Maker) -> None:
        """Note that a node's run made the nodes from ``start`` up to ``end``; they share its place."""
        call = self.call(maker.number)
        self._starts.append(start)
        self._calls.append(call._replace(end=end) if call else Call(end, None, None))
        for number in range(start, end):
            self._makers[number] = maker

    def maker(self, number: int) -> Maker | None:
        """Return the backward node whose run made the node with this sequence number."""
        return self._makers.get(number)

    def call(self, number: int) -> Call | None:
        """Return the call that made the node with this sequence number."""
        at = bisect_right(self._starts, number) - 1
        return self._calls[at] if at >= 0 and number < self._calls[at].end else None

    def value(self, number: int, output: int) -> Measured | None:
        """Return what a forward output of the node with this sequence number held."""
        return self._values.get((number, output))

    def forget(self, kept: set[int], before: int) -> None:
        """Drop all that is older than ``before``, other than the nodes whose numbers are in ``kept``."""
        found = [
            (start, call)
            for start, call in zip(self._starts, self._calls, strict=True)
            if start >= before or not kept.isdisjoint(range(start, call.end))
        ]
        self._starts = [start for start, _ in found]
        self._calls = [call for _, call in found]
        self._values = {key: value for key, value in self._values.items() if key[0] >= before or key[0] in kept}
        self._makers = {key: value for key, value in self._makers.items() if key >= before or key in kept}

    def __len__(self) -> int:
        """Return the number of calls held."""
        return len(self._calls)


class ForwardMode(TorchFunctionMode):
    """Notes in ``log`` each torch call of this thread that makes a node; measures results if told to."""

    def __init__(self, log: CallLog, *, values: bool = True) -> None:
        super().__init__()
        self._log = log
        self._with_values = values

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` as it would run without us; the mode is off while it does."""
        start = sequence_number()
        result = func(*args, **kwargs) if kwargs else func(*args)
        end = sequence_number()
        if end != start:
            self._log.add(start, end, sys._getframe(1))
            if self._with_values:
                self._log.add_values(start, (result,))
        return result
