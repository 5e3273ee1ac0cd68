"""RawPass: the recording of one backward pass when it has ended, in values that are not changed afterwards."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from gradtrace.recording.stats.kinds import Measured

if TYPE_CHECKING:
    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.graph import Link
    from gradtrace.recording.autograd.saved_tensors import SavedFields
    from gradtrace.recording.backward.post_hook import Event
    from gradtrace.recording.forward.thread_logs import ThreadLog
    from gradtrace.recording.user_code.frames import Place
    from gradtrace.recording.user_code.source_text import Sources

__all__ = ["GraphSnapshot", "HookedRun", "LeafRow", "PassFields", "PassKind", "RawFact", "RawPass", "RootOutput"]

PassKind = Literal["backward", "grad", "seeded"]
# A leaf's name and shape, and what arrived there.
LeafRow = tuple[str, tuple[int, ...], Measured | None]


class RootOutput(NamedTuple):
    """Tensor that backward starts from: its name, its value, and its seed."""

    name: str
    value: Measured | None
    seed: Measured | None


class GraphSnapshot(NamedTuple):
    """Graph just before its pass runs, as plain data and measurements: no node, no tensor.

    Nodes are identified by their position in the walk; ``numbers`` are their sequence numbers. For a pass recorded by
    its leaves alone there are only roots, leaves, names and values.
    """

    place: Place | None = None
    outputs: tuple[RootOutput, ...] = ()
    roots: tuple[tuple[int, int], ...] = ()
    leaves: frozenset[int] = frozenset()
    names: dict[int, str] = {}  # noqa: RUF012 - made once, nobody writes to it
    leaf_values: dict[int, Measured] = {}  # noqa: RUF012
    ops: list[str] = []  # noqa: RUF012
    links: list[Link] = []  # noqa: RUF012
    numbers: array[int] = array("Q")
    saved: list[SavedFields] = []  # noqa: RUF012
    module_names: dict[int, str] = {}  # noqa: RUF012
    torchviz: str | None = None


class HookedRun(NamedTuple):
    """Result of the hooks on the nodes while the engine ran.

    Attributes:
        task: the engine's task of this pass, -1 where no root ran.
        events: the runs of the nodes in order, those of nested and parallel passes included.
        hooked_leaves: positions of leaves with hooks of the script.
        finished_leaves: those of them whose hooks have ended.
        made_by: positions of nodes whose run made other nodes (``create_graph``).
        last_leaf: time of the last arrival of a gradient at a leaf, by ``perf_counter``.
    """

    task: int = -1
    events: list[Event] = []  # noqa: RUF012 - replaced as a whole
    hooked_leaves: frozenset[int] = frozenset()
    finished_leaves: frozenset[int] = frozenset()
    made_by: frozenset[int] = frozenset()
    last_leaf: float | None = None


class RawFact(NamedTuple):
    """Fact whose nodes are positions in the walk and whose source is a place."""

    kind: str
    positions: tuple[int, ...] = ()
    place: Place | None = None
    data: dict[str, Attribute] = {}  # noqa: RUF012 - nobody writes to it


class PassFields(Protocol):
    """Further fields of a BackwardPass, found when it is assembled."""

    def fields(self, ids: dict[int, str], numbers: array[int], sources: Sources) -> dict[str, Any]:
        """Return the fields by name; ``ids`` and ``numbers`` are those of the nodes, by position."""


class RawPass(NamedTuple):
    """One backward pass: the graph before it, the run, and what is known afterwards."""

    pass_index: int
    kind: PassKind
    log: ThreadLog
    graph: GraphSnapshot
    run: HookedRun = HookedRun()
    # Gradients that the engine returned, by node and output: these nodes did not run.
    captured: dict[tuple[int, int], Measured | None] = {}  # noqa: RUF012
    # Type and message only: the exception's traceback would keep the script's tensors alive.
    error: tuple[str, str] | None = None
    facts: tuple[RawFact, ...] = ()
    extra: PassFields | None = None
    # Reduced gradients of leaves, by position.
    reduced: dict[int, Measured] = {}  # noqa: RUF012
    # ``.grad`` after the pass, for leaves that had a gradient before, by position.
    accumulated: dict[int, Measured] = {}  # noqa: RUF012
    rank: int | None = None  # of the process; None if there are no others
    step: int = 0  # optimizer steps before the pass
    seconds: tuple[float, float] = (0.0, 0.0)  # start and end of the engine's run, by ``perf_counter``

    def own_events(self) -> list[Event]:
        """Return the runs that belong to this pass, in order, without those of nested and parallel passes."""
        return [event for event in self.run.events if event[0] == self.run.task]

    def leaf_gradients(self) -> dict[int, Measured]:
        """Return the gradient that arrived at each leaf that was reached, by position."""
        leaves, task = self.graph.leaves, self.run.task
        found = {position: found for (position, _), found in self.captured.items() if position in leaves}
        found |= {event[1]: event[2][0] for event in self.run.events if event[1] in leaves and event[0] == task}
        return {position: measured for position, measured in found.items() if measured is not None}

    def leaf_rows(self) -> list[LeafRow]:
        """Return a row for each leaf."""
        gradients, names = self.leaf_gradients(), self.graph.names
        kinds = [(at, measured[0]) for at, measured in self.graph.leaf_values.items()]
        return [(names[at], kind.whole or kind.shape, gradients.get(at)) for at, kind in kinds]

    def failed(self) -> int | None:
        """Return the node that was running when the engine gave up: the one it picks next of those ready.

        The engine takes leaves first, then the node that was made last. A leaf that ran but whose own hooks did
        not finish failed in one of those hooks.
        """
        ran: dict[int, None] = dict.fromkeys(event[1] for event in self.own_events())
        last: int | None = next(reversed(ran), None)
        if last in self.run.hooked_leaves and last not in self.run.finished_leaves:
            return last
        blocked = {target for source, _, target, _ in self.graph.links if source not in ran}
        ready = [p for p in range(len(self.graph.ops)) if p not in ran and p not in blocked]
        return max(ready, key=lambda position: self.graph.numbers[position], default=None)
