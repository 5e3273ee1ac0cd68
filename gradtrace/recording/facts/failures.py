"""Failures of backward, the two commonest: a graph freed before, and saved memory changed in place."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.recording.autograd.saved_tensors import saved_tensors
from gradtrace.recording.backward.raw_pass import RawFact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.backward.raw_pass import RawPass
    from gradtrace.recording.facts.shared import Shared
    from gradtrace.recording.forward.thread_logs import ThreadLog
    from gradtrace.recording.user_code.frames import Place

__all__ = ["FreedGraphs", "changed"]

_PASSES = 50  # passes whose freed nodes are remembered
_NODES = 2_000_000  # nodes of all these passes
_VERSIONS = re.compile(r"\[(?:\d+(?:, )?)*\]\].*is at version (\d+); expected version (\d+)")


class _Freed(NamedTuple):
    """A pass that freed its graph: its thread's log, the numbers of its nodes, its index and place."""

    log: ThreadLog
    numbers: frozenset[int]
    pass_index: int
    place: Place | None


class FreedGraphs:
    """Graphs freed by the latest passes."""

    def __init__(self) -> None:
        self._freed: deque[_Freed] = deque(maxlen=_PASSES)

    def remember(self, raw: RawPass) -> None:
        """Note the nodes that a pass freed."""
        graph = raw.graph
        numbers = frozenset(n for position, n in enumerate(graph.numbers) if position not in graph.leaves)
        self._freed.append(_Freed(raw.log, numbers, raw.pass_index, graph.place))
        while sum(len(freed.numbers) for freed in self._freed) > _NODES and len(self._freed) > 1:
            self._freed.popleft()

    def fact(self, raw: RawPass) -> Iterator[RawFact]:
        """Yield the earlier pass that freed a part of a failed pass's graph, and the nodes where the two meet."""
        failed, graph = raw.failed(), raw.graph
        number = graph.numbers[failed] if failed is not None else None
        freed = next((f for f in self._freed if f.log is raw.log and number in f.numbers), None)
        if freed is None:
            return
        shared = {p for p, n in enumerate(graph.numbers) if p not in graph.leaves and n in freed.numbers}
        roots = {position for position, _ in graph.roots}
        ties = {target for source, _, target, _ in graph.links if target in shared and source not in shared}
        same = roots <= shared
        positions = tuple(sorted(roots if same else ties | (roots & shared)))
        yield RawFact("freed", positions, freed.place, {"pass": freed.pass_index, "same": same})


def changed(shared: Shared, message: str, raw: RawPass, graph: Walk) -> Iterator[RawFact]:
    """Yield the call that changed in place a tensor saved by the failed node."""
    failed = raw.failed()
    versions = _VERSIONS.search(message)
    if failed is None:
        return
    version, was = map(int, versions.groups()) if versions else (None, None)
    for name, tensor in saved_tensors(graph.nodes[failed]):
        if version is not None and tensor._version != version:
            continue
        shape: list[Attribute] = list(tensor.shape)
        op, place = shared.change_of(tensor, was) or ("", None)
        data: dict[str, Attribute] = {"op": op, "saved": name, "shape": shape, "was": was, "version": version}
        yield RawFact("changed", (failed,), place, data)
        return
