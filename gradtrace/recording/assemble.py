"""From a raw pass to a BackwardPass: ids in order of execution, text for places, numbers for measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.gc_pause import gc_paused
from gradtrace.model import BackwardPass, Edge, ErrorInfo, Fact, ModuleCall, Node, TensorStats
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.recording.autograd.graph import Link
    from gradtrace.recording.backward.nesting import Nesting
    from gradtrace.recording.backward.post_hook import Event
    from gradtrace.recording.backward.raw_pass import RawPass
    from gradtrace.recording.forward import modules
    from gradtrace.recording.forward.thread_logs import ThreadLogs
    from gradtrace.recording.user_code.source_text import Sources

__all__ = ["assemble"]


def assemble(raw: RawPass, logs: ThreadLogs, nesting: Nesting, sources: Sources) -> BackwardPass:
    """Return the pass as immutable data."""
    with gc_paused():
        return _Assembly(raw, logs, nesting, sources).build()


class _Assembly:
    """Tables by position, from which the nodes and edges of one pass are built."""

    def __init__(self, raw: RawPass, logs: ThreadLogs, nesting: Nesting, sources: Sources) -> None:
        self.raw = raw
        self.graph = raw.graph
        self.logs = logs
        self.nesting = nesting
        self.sources = sources
        events = raw.own_events()
        # Tables by position, as lists: dictionaries of a million nodes take more memory than the nodes.
        self.runs: list[Event | None] = [None] * len(raw.graph.ops)
        self.ranks: list[int | None] = [None] * len(raw.graph.ops)
        for rank, event in enumerate(events):
            self.runs[event[1]], self.ranks[event[1]] = event, rank
        self.order = self._backward_order(events)
        self.ids = [""] * len(raw.graph.ops)
        for index, position in enumerate(self.order, len(raw.graph.outputs)):
            self.ids[position] = f"n{index}"
        if raw.run.made_by:
            nesting.note_ids(raw.pass_index, dict(enumerate(self.ids)))
        reduce_pending(all_measured(raw))
        self.calls = _Calls(raw.graph.module_names)
        self.failed = raw.failed() if raw.error else None

    def build(self) -> BackwardPass:
        raw = self.raw
        nodes, edges = self._nodes_and_edges()
        ids = dict(enumerate(self.ids)) if raw.extra is not None else {}
        extra = {} if raw.extra is None else raw.extra.fields(ids, raw.graph.numbers, self.sources)
        return BackwardPass(
            raw.pass_index,
            raw.kind,
            tuple(nodes),
            tuple(edges),
            self.sources(raw.graph.place),
            raw.rank or 0,
            calls=tuple(self.calls.found),
            error=self._error(),
            facts=tuple(self._facts()),
            step=raw.step,
            seconds=_rounded(raw.seconds[1] - raw.seconds[0]),
            waiting=self._waiting(),
            **extra,
        )

    def _waiting(self) -> float | None:
        """Return the seconds from the last arrival at a leaf to the engine's return; None without other processes."""
        last = self.raw.run.last_leaf
        return None if last is None or self.raw.rank is None else _rounded(self.raw.seconds[1] - last)

    def _nodes_and_edges(self) -> tuple[list[Node], list[Edge]]:
        """Return the nodes and edges in backward order; the events of each node are freed once it is built."""
        raw = self.raw
        nodes = list(self._outputs())
        edges = [
            Edge(f"n{index}", self.ids[position], 0, output, _stats(raw.graph.outputs[index].seed))
            for index, (position, output) in enumerate(raw.graph.roots)
        ]
        places = [0] * len(raw.graph.ops)
        for place, position in enumerate(self.order):
            places[position] = place
        links = iter(sorted(raw.graph.links, key=lambda link: (places[link[0]], link[1])))
        link = next(links, None)
        raw.run.events.clear()  # frees them: holding a million events and nodes at once takes twice the memory
        for position in self.order:
            nodes.append(self._node(position))
            while link is not None and link[0] == position:
                edges.append(self._edge(link))
                link = next(links, None)
            if self.failed is None:  # the nodes around it have what it lacks
                self.runs[position] = None
        return nodes, edges

    def _backward_order(self, events: list[Event]) -> list[int]:
        """Return the positions of the nodes: first those that ran, in order, then the others, latest made first."""
        raw = self.raw
        ran = [event[1] for event in events]
        waiting = [position for position, rank in enumerate(self.ranks) if rank is None]
        waiting.sort(key=lambda position: (position in raw.graph.leaves, -raw.graph.numbers[position], position))
        return list(dict.fromkeys([*ran, *waiting]))

    def _outputs(self) -> Iterable[Node]:
        for index, (name, value, seed) in enumerate(self.raw.graph.outputs):
            yield Node(f"n{index}", "output", "output", name, values=(_stats(value),), grads=(_stats(seed),))

    def _node(self, position: int) -> Node:
        raw = self.raw
        run = self.runs[position]
        grads = self._arrived(position, run)
        seconds = _rounded(run[4]) if run and run[4] is not None else None
        rank = self.ranks[position]
        if position in raw.graph.leaves:
            value = (_stats(raw.graph.leaf_values[position]),)
            return Node(
                self.ids[position], "leaf", raw.graph.ops[position], raw.graph.names[position],
                values=value, grads=grads or (None,), order=rank, seconds=seconds,
                reduced=_stats(raw.reduced.get(position)), accumulated=self._accumulated(position, grads),
            )  # fmt: skip
        number = raw.graph.numbers[position]
        log, call = self.logs.of(raw.log, number)
        maker = log.calls.maker(number)
        values = log.calls.values_of(call, number)
        made_in = log.modules.call(maker.number if maker else number) if call else None
        module, module_index = self.calls.of(made_in)
        outputs = max(len(grads), 1)
        return Node(
            self.ids[position],
            "function",
            raw.graph.ops[position],
            raw.graph.names.get(position, ""),
            module,
            module_index,
            self.sources(call[2]) if call and call[2] else None,
            self.sources(call[3]) if call and call[3] else None,
            tuple([_stats(values.get(output)) for output in range(outputs)]),
            grads or (None,),
            *raw.graph.saved[position],
            rank,
            seconds,
            self.nesting.origin(maker) if maker else None,
        )

    def _arrived(self, position: int, run: Event | None) -> tuple[TensorStats | None, ...]:
        if run is not None:
            return tuple([_stats(measured) for measured in run[2]])
        if position == self.failed:
            return self._came_in(position)
        captured = {output: found for (node, output), found in self.raw.captured.items() if node == position}
        if not captured:
            return ()
        return tuple([_stats(captured.get(output)) for output in range(max(captured) + 1)])

    def _accumulated(self, position: int, grads: tuple[TensorStats | None, ...]) -> TensorStats | None:
        """Return what ``.grad`` of a leaf held after the pass, unless it is the gradient that arrived."""
        # A gradient reduced across processes is stored in its own field.
        held = None if position in self.raw.reduced else _stats(self.raw.accumulated.get(position))
        return None if held in grads else held

    def _came_in(self, position: int) -> tuple[TensorStats | None, ...]:
        """Return the gradient of a node that failed before its hook ran, where a single edge leads to it."""
        flows: dict[int, list[TensorStats | None]] = {}
        for source, index, target, output in self.raw.graph.links:
            run = self.runs[source]
            if target == position and run is not None:
                flows.setdefault(output, []).append(_stats(run[3][index]))
        for index, (root, output) in enumerate(self.raw.graph.roots):
            if root == position:
                flows.setdefault(output, []).append(_stats(self.raw.graph.outputs[index].seed))
        found = {output: same[0] for output, same in flows.items() if len(same) == 1}
        return tuple([found.get(output) for output in range(max(flows, default=-1) + 1)])

    def _edge(self, link: Link) -> Edge:
        source, index, target, output = link
        run = self.runs[source]
        sent = run[3][index] if run and index < len(run[3]) else None
        return Edge(self.ids[source], self.ids[target], index, output, _stats(sent))

    def _error(self) -> ErrorInfo | None:
        raw = self.raw
        if raw.error is None:
            return None
        node = None if self.failed is None else self.ids[self.failed]
        name, message = raw.error
        return ErrorInfo(name, message, self.sources(raw.graph.place), node)

    def _facts(self) -> Iterable[Fact]:
        for kind, positions, place, data in self.raw.facts:
            yield Fact(kind, tuple([self.ids[position] for position in positions]), self.sources(place), data)


def _rounded(seconds: float) -> float:
    """Return the seconds at the resolution of the clock: further digits would only enlarge the file."""
    return round(seconds, 7)


def _stats(measured: Measured | None) -> TensorStats | None:
    return None if measured is None else to_stats(measured)


def all_measured(raw: RawPass) -> list[Measured]:
    """Return all measurements of a pass."""
    groups: list[Iterable[Measured | None]] = [
        raw.graph.leaf_values.values(),
        raw.captured.values(),
        raw.reduced.values(),
        raw.accumulated.values(),
    ]
    groups += [output[1:] for output in raw.graph.outputs]
    for event in raw.run.events:
        groups += [event[2], event[3]]
    return [measured for group in groups for measured in group if measured is not None]


class _Calls:
    """Module calls of one pass, in order of first use, each with the position of its parent."""

    def __init__(self, names: dict[int, str]) -> None:
        self.found: list[ModuleCall] = []
        self._names = names
        self._positions: dict[modules.ModuleCall, int] = {}

    def of(self, call: modules.ModuleCall | None) -> tuple[str, int | None]:
        """Return the module path of ``call`` and its position."""
        if call is None:
            return "", None
        position = self._position(call)
        return self.found[position].path, position

    def _position(self, call: modules.ModuleCall) -> int:
        chain = []
        around: modules.ModuleCall | None = call
        while around is not None and around not in self._positions:
            chain.append(around)
            around = around.parent
        parent = None if around is None else self._positions[around]
        for inner in reversed(chain):
            self.found.append(ModuleCall(self._path(inner), inner.type, parent))
            parent = self._positions[inner] = len(self.found) - 1
        return self._positions[call]

    def _path(self, call: modules.ModuleCall) -> str:
        name = self._names.get(call.root_id, call.root_type)
        return ".".join(filter(None, (name, call.path))) or call.root_type
