"""Structs of a fold: boxes that hold nodes, the links between them, and the way back to the recorded graph."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from msgspec import Struct

from gradtrace.model import BackwardPass, Edge, Finding, TensorStats

__all__ = ["Box", "Flow", "Folded", "GradientSummary", "Link", "Opening", "View", "Wire"]

# Which of its grad_inputs an edge leaves by and which output it arrives at, between positions of a run's
# nodes: source, target, source_index, target_index. The source lies in the run's first segment.
Wire = tuple[int, int, int, int]
BoxKind = Literal["node", "op", "chain", "run", "module", "stretch"]


class Opening(Struct, frozen=True):
    """A kind of thing that was folded, and the option that opens it."""

    what: str
    option: str


class View(Struct, frozen=True):
    """Options on what to show of a pass.

    Args:
        max_nodes: boxes that a picture may have; above it the graph is folded, as little as needed. With None
            it is folded until the picture can be read.
        depth: show each module call at this depth as one box, whatever the number of boxes; None to choose.
        open: module paths whose nodes are never folded.
        full: fold nothing.
        focus: the nodes of this name with those around them, and the rest in one box before and one behind; empty
            for all.
        radius: how many edges from those in focus a node may be to be shown; None for 3, or fewer where that can't
            be read.
        through: only the ways through the nodes of this name; empty for all.
        between: only the ways between the nodes of these two names; None for all.
    """

    max_nodes: int | None = None
    depth: int | None = None
    open: tuple[str, ...] = ()
    full: bool = False
    focus: str = ""
    between: tuple[str, str] | None = None
    radius: int | None = None
    through: str = ""


class Flow(Struct, frozen=True):
    """Gradients taken together: how many tensors, and the statistics of the one, or of all joined end to end."""

    tensors: int = 0
    stats: TensorStats | None = None


class GradientSummary(Struct, frozen=True):
    """Summary of the gradients of the nodes in a box.

    ``arrived`` is what came in over its border, ``left`` what it sent on to other boxes. ``low`` and ``high``
    are the smallest and the largest norm inside that is not zero, each with its node. ``zero``, ``none`` and
    ``broken`` count gradients. ``curve`` has the norm that arrived at each segment of a run, the last in
    backward order last: None where none arrived, NaN where it was not finite.
    """

    arrived: Flow = Flow()
    left: Flow = Flow()
    low: tuple[float, str] | None = None
    high: tuple[float, str] | None = None
    zero: int = 0
    none: int = 0
    broken: int = 0
    curve: tuple[float | None, ...] = ()


class Box(Struct, frozen=True):
    """Nodes drawn as one: a ``node`` alone, an ``op`` with the views of its parameters, or a fold of many.

    ``nodes`` are functions and outputs in backward order, segment after segment in a run of ``count``.
    ``leaves`` are drawn in it: also used by other boxes where they are in the fold's ``shared``.
    """

    id: str
    kind: BoxKind
    nodes: tuple[str, ...]
    leaves: tuple[str, ...] = ()
    count: int = 1
    name: str = ""
    call: int | None = None
    wires: tuple[Wire, ...] = ()
    summary: GradientSummary = GradientSummary()
    findings: tuple[Finding, ...] = ()

    @property
    def folded(self) -> bool:
        """True if it holds more than one node, its own leaves not counted."""
        return self.kind != "node"


class Link(Struct, frozen=True):
    """The edges that lead from one box to another."""

    source: str
    target: str
    edges: tuple[Edge, ...]


class Folded(Struct, frozen=True, dict=True):
    """A pass in boxes: each node is in one box, leaves that several boxes use are in each of those.

    ``inner`` are the edges inside boxes, but for those of runs: a run's wires say them once for all segments.
    """

    graph: BackwardPass
    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    inner: tuple[Edge, ...] = ()
    shared: frozenset[str] = frozenset()
    openings: tuple[Opening, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Box]:
        """The boxes by their id."""
        return {box.id: box for box in self.boxes}

    @property
    def is_folded(self) -> bool:
        """True if anything is drawn otherwise than as recorded."""
        return bool(self.openings)

    def expand(self) -> tuple[set[str], list[tuple[str, str, int, int]]]:
        """Return the ids of all nodes, and all edges, sorted: those of the recorded graph if the fold is exact."""
        ids = {node_id for box in self.boxes for node_id in (*box.nodes, *box.leaves)}
        edges = [edge for link in self.links for edge in link.edges]
        edge_keys = [(e.source, e.target, e.source_index, e.target_index) for e in (*edges, *self.inner)]
        for box in self.boxes:
            edge_keys += _replayed(box)
        return ids, sorted(edge_keys)


def _replayed(box: Box) -> list[tuple[str, str, int, int]]:
    """Return the edges of a run: each wire once for each segment in which its target is still in the run."""
    width = len(box.nodes) // box.count
    return [
        (box.nodes[start + source], box.nodes[start + target], source_index, target_index)
        for source, target, source_index, target_index in box.wires
        for start in range(0, len(box.nodes) - target, width)
    ]
