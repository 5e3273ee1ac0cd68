"""Content of a fold: the boxes one level down, and the links that cross its border."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.fold.boxes import Box, Link, View
from gradtrace.fold.build import box_of, by_nodes, id_of
from gradtrace.fold.groups import Calls, Part, chunked, common_call
from gradtrace.fold.line import line_of
from gradtrace.fold.samples import sampled
from gradtrace.fold.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.fold.line import Line
    from gradtrace.model import Edge, Finding

__all__ = ["Inside", "opened"]

MOST = 60  # boxes that an opened fold shows
SEGMENTS = 24  # of a run that are shown one by one


class Inside(Struct, frozen=True):
    """The boxes in a fold, in backward order.

    ``entering`` links have no source and ``leaving`` ones no target: that is outside. ``around`` are the calls
    that the fold itself is in.
    """

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]
    entering: tuple[Link, ...]
    leaving: tuple[Link, ...]
    around: frozenset[int]


def opened(line: Line, box: Box, findings: Sequence[Finding] = ()) -> Inside:
    """Return what is in a box of a fold of this line; always more boxes than one, each of them smaller."""
    places = sorted(line.place[node_id] for node_id in box.nodes)
    calls = Calls(line.graph)
    around = frozenset(calls.chain(box.call if box.kind == "module" else common_call(calls, _calls(line, places))))
    if box.kind == "run":
        parts = _segments(line, box, calls)
    elif len(places) <= MOST:
        parts = [Part("node", (at,), call=line.nodes[at].call) for at in places]
    else:
        parts = _staged(line, box, around)
        if len(parts) == 1:
            parts = chunked([Part("node", (at,), call=line.nodes[at].call) for at in places], MOST, calls)
    return _built(line, parts, around, findings)


def _calls(line: Line, places: Sequence[int]) -> list[int | None]:
    return [line.nodes[at].call for at in places]


def _segments(line: Line, box: Box, calls: Calls) -> list[Part]:
    """Return the segments of a run one by one, or where they are many, shorter runs."""
    width = len(box.nodes) // box.count
    size = -(-box.count // SEGMENTS)
    found = []
    for start in range(0, len(box.nodes), size * width):
        places = tuple(line.place[node_id] for node_id in box.nodes[start : start + size * width])
        call = common_call(calls, _calls(line, places))
        count = len(places) // width
        if len(places) == 1:
            found.append(Part("node", places, call=call))
        elif count > 1 and _together(places):
            found.append(Part("run", places, count, call, "" if "…" in box.name else box.name))
        else:
            found.append(Part("stretch" if call == box.call or call is None else "module", places, call=call))
    return found


def _together(places: Sequence[int]) -> bool:
    return places[-1] - places[0] == len(places) - 1


def _staged(line: Line, box: Box, around: frozenset[int]) -> list[Part]:
    """Return the parts of a large fold, folded as little as a fold of its nodes alone needs."""
    inside = {*box.nodes, *box.leaves}
    graph = replace(
        line.graph,
        nodes=tuple(node for node in line.graph.nodes if node.id in inside),
        edges=tuple(edge for edge in line.graph.edges if edge.source in inside and edge.target in inside),
        calls=tuple(replace(call, parent=None) if call.parent in around else call for call in line.graph.calls),
    )
    nodes = tuple(replace(node, call=None) if node.call in around else node for node in graph.nodes)
    alone = line_of(replace(graph, nodes=nodes))
    stages = Stages(alone, View(max_nodes=MOST))
    parts, _, plan = stages.parts()
    parts = parts if plan is None else sampled(stages, plan, parts)
    return [_moved(part, [line.place[alone.nodes[at].id] for at in part.places]) for part in parts]


def _moved(part: Part, places: Sequence[int]) -> Part:
    """Return a part with its places on the whole line; a run that others stand within is no run there."""
    kind = "stretch" if part.kind == "run" and not _together(places) else part.kind
    return replace(part, kind=kind, places=tuple(places), count=part.count if kind == "run" else 1)


def _built(line: Line, parts: Sequence[Part], around: frozenset[int], findings: Sequence[Finding]) -> Inside:
    found = by_nodes(findings)
    boxes = [box_of(line, part, id_of(line, part), _leaves(line, part), found) for part in parts]
    home = {at: box.id for part, box in zip(parts, boxes, strict=True) for at in part.places}
    bundles: dict[tuple[str, str], list[Edge]] = defaultdict(list)
    for at, mine in home.items():
        for source, edge in line.inward[at]:
            if source not in home:
                bundles["", mine].append(edge)
        for target, edge in line.onward[at]:
            if home.get(target, "") != mine:
                bundles[mine, home.get(target, "")].append(edge)
    links = [Link(source, target, tuple(edges)) for (source, target), edges in bundles.items()]
    return Inside(
        tuple(boxes),
        tuple(link for link in links if link.source and link.target),
        tuple(link for link in links if not link.source),
        tuple(link for link in links if not link.target),
        around,
    )


def _leaves(line: Line, part: Part) -> tuple[str, ...]:
    return tuple(dict.fromkeys(edge.target for at in part.places for edge in line.to_leaves[at]))
