"""Graphs that live on after their pass: sums of losses, losses in a list, and passes that run old nodes again."""

from __future__ import annotations

import sys
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradtrace.model import Attribute

__all__ = ["KeptGraphs"]

_LENGTH = 6  # passes whose graphs are joined by a sum
_ALIVE = 12  # losses kept alive
_ROOTS = 200
RunFact = tuple[str, tuple[int, ...], Place | None, dict[str, "Attribute"]]


class _Sum:
    """A line that adds to the same sum in pass after pass: the number of its last node, and over how many passes."""

    __slots__ = ("longest", "number", "pass_index", "passes", "total")

    def __init__(self) -> None:
        self.number = self.pass_index = -1
        self.passes = self.longest = 0
        self.total: weakref.ref[torch.Tensor] | None = None


class KeptGraphs:
    """Tracks the sums and the losses of one run."""

    def __init__(self) -> None:
        self.pass_index = 0  # of the pass that ended last
        self.nodes = 0  # of its graph
        self._sums: dict[Place | None, _Sum] = {}
        self._roots: deque[tuple[Place | None, weakref.ref[torch.Tensor]]] = deque(maxlen=_ROOTS)
        self._alive: Counter[Place | None] = Counter()
        self._last: dict[Any, int] = {}  # the largest number of a node that the last pass of a thread ran

    def note_sum(self, args: Iterable[Any], result: torch.Tensor, number: int) -> None:
        """Note that two numbers with a graph were added; ``number`` is that of the node."""
        place = find_user_place(sys._getframe(1))[0]
        chain = self._sums.setdefault(place, _Sum())
        goes_on = any(chain.total is not None and chain.total() is arg for arg in args)
        if goes_on and self.pass_index > chain.pass_index:
            chain.passes += 1
            chain.longest = max(chain.longest, chain.passes)
        elif not goes_on:
            chain.passes = 1
        chain.total = weakref.ref(result)
        chain.number, chain.pass_index = number, self.pass_index

    def before(self, log: Any, numbers: Sequence[int], functions: Iterable[int]) -> int:
        """Return the number of nodes of a pass that are older than the last pass of its thread.

        A sum that a pass starts from, or goes through, is one for which the graphs are needed.
        """
        if self._sums:
            known = set(numbers)
            for chain in self._sums.values():
                if chain.number in known:
                    chain.passes = chain.longest = 0
        last, made = self._last.get(log, -1), list(functions)
        self._last[log] = max(made, default=last)
        return sum(number <= last for number in made)

    def after(self, place: Place | None, outputs: Iterable[Any], pass_index: int, nodes: int) -> None:
        """Note the end of a pass from these outputs."""
        self.pass_index, self.nodes = pass_index, nodes
        self._roots += [(place, weakref.ref(t)) for t in outputs if type(t) is torch.Tensor and t.grad_fn is not None]
        if pass_index % _ALIVE == 0:
            self._count()

    def _count(self) -> None:
        alive = Counter(place for place, root in self._roots if root() is not None)
        for place, count in alive.items():
            self._alive[place] = max(self._alive[place], count)

    def of_run(self) -> Iterator[RunFact]:
        """Yield the lines that keep the graphs of several passes."""
        self._count()
        for place, chain in self._sums.items():
            if chain.longest >= _LENGTH:
                yield "graph-kept", (), place, {"how": "sum", "passes": chain.longest, "nodes": self.nodes}
        for place, count in self._alive.items():
            if count >= _ALIVE:
                yield "graph-kept", (), place, {"how": "list", "passes": count, "nodes": self.nodes}
