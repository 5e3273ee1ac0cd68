"""A few nodes with what is around them, and all else in a box before, a box behind, and what lies between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.fold.boxes import Opening
from gradtrace.fold.build import as_recorded, built
from gradtrace.fold.chains import parts_with_chains
from gradtrace.fold.groups import Calls, Part, common_call
from gradtrace.fold.line import line_of
from gradtrace.fold.selection import around, reaching
from gradtrace.fold.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.fold.boxes import Folded, View
    from gradtrace.fold.line import Line
    from gradtrace.model import BackwardPass, Finding

__all__ = ["focused"]

RADIUS = 3  # edges from what is in focus
BEFORE, BETWEEN, BEHIND = "before", "between", "behind"


def focused(graph: BackwardPass, view: View, findings: Sequence[Finding], fits: Callable[[Folded], bool]) -> Folded:
    """Return the nodes in focus and those around them, each in a box of its own, the rest in as few as make no cycle.

    Where that does not fit, views are folded, and then fewer nodes around are shown, unless the view says how many.
    Where what is in focus is too much by itself, it is folded as a whole pass is, with what lies between.
    """
    line = line_of(graph)
    radii = range(RADIUS, -1, -1) if view.radius is None else (view.radius,)
    tries = [(radii[0], False), *((radius, True) for radius in radii)]
    folded = None
    for radius, chains in tries:
        folded = _built(line, around(graph, view.focus, radius), findings, (view.focus, radius, chains))
        if fits(folded):
            return folded
    for folded in _ever_more(line, around(graph, view.focus, radii[-1]), findings, view):
        if fits(folded):
            break
    return folded or as_recorded(graph, findings)


def _ever_more(line: Line, shown: set[str], findings: Sequence[Finding], view: View) -> Iterator[Folded]:
    """Yield what is in focus with ever more of it folded, between the boxes before and behind."""
    places = _places(line, shown)
    ids = {line.nodes[at].id for at in places[BETWEEN]}
    ids |= {edge.target for at in places[BETWEEN] for edge in line.to_leaves[at]}
    graph = replace(
        line.graph,
        nodes=tuple(node for node in line.graph.nodes if node.id in ids),
        edges=tuple(edge for edge in line.graph.edges if edge.source in ids and edge.target in ids),
    )
    alone = line_of(graph)
    for staged in Stages(alone, view).levels():
        parts = [_moved(part, [line.place[alone.nodes[at].id] for at in part.places]) for part in staged.parts]
        boxes = [*_stub(line, places[BEFORE], BEFORE), *parts, *_stub(line, places[BEHIND], BEHIND)]
        rest = [Opening(f"all but {view.focus}", f"--radius {RADIUS}")] if len(boxes) > len(parts) else []
        yield built(line, boxes, (*rest, *staged.openings), findings)


def _moved(part: Part, places: list[int]) -> Part:
    """Return a part with its places on the whole line; a run that others stand within is no run there."""
    together = places[-1] - places[0] == len(places) - 1
    kind = "stretch" if part.kind == "run" and not together else part.kind
    return replace(part, kind=kind, places=tuple(places), count=part.count if kind == "run" else 1)


def _places(line: Line, shown: set[str]) -> dict[str, list[int]]:
    """Return the places before those shown, between and with them, and behind them.

    Where none of the rest leads to those shown, it stands behind them, and where none of those shown leads
    to it, before them.
    """
    leading, ahead = reaching(line.graph, shown), _ahead(line, shown)
    places: dict[str, list[int]] = {BEFORE: [], BETWEEN: [], BEHIND: []}
    for at, node in enumerate(line.nodes):
        where = BEHIND if node.id not in leading else BEFORE if node.id in ahead else BETWEEN
        places[BETWEEN if node.id in shown else where].append(at)
    return places


def _built(line: Line, shown: set[str], findings: Sequence[Finding], said: tuple[str, int, bool]) -> Folded:
    """Return those shown in boxes, the rest before and behind in one each, what lies between stretch by stretch."""
    places = _places(line, shown)
    free = [at for at in places[BETWEEN] if line.nodes[at].id in shown]
    name, radius, chains = said
    parts = parts_with_chains(line, free, frozenset()) if chains else {at: _alone(line, at) for at in free}
    middle = _middle(line, places[BETWEEN], (set(free), parts))
    boxes = [*_stub(line, places[BEFORE], BEFORE), *middle, *_stub(line, places[BEHIND], BEHIND)]
    rest = Opening(f"all but {name} and {radius} step{'s' * (radius != 1)} around it", f"--radius {radius + 3}")
    openings = [rest] if any(part.name for part in boxes) else []
    return built(line, boxes, openings, findings)


def _ahead(line: Line, shown: set[str]) -> set[str]:
    """Return the ids of the nodes to which no way leads from those shown, and that are none of them."""
    reached = set(shown)
    for at, node in enumerate(line.nodes):
        if node.id in reached:
            reached.update(line.nodes[target].id for target, _ in line.onward[at])
    return {node.id for node in line.graph.nodes} - reached


def _middle(line: Line, places: Sequence[int], shown: tuple[set[int], dict[int, Part]]) -> list[Part]:
    """Return the parts of what is shown, and what stands between on the line, stretch by stretch."""
    own, parts = shown
    boxes: list[Part] = []
    stretch: list[int] = []
    for at in places:
        if at not in own:
            stretch.append(at)
        elif at in parts:
            boxes += [*_stub(line, stretch, BETWEEN), parts[at]]
            stretch = []
    return [*boxes, *_stub(line, stretch, BETWEEN)]


def _alone(line: Line, at: int) -> Part:
    return Part("node", (at,), call=line.nodes[at].call)


def _stub(line: Line, places: Sequence[int], name: str) -> list[Part]:
    if not places:
        return []
    call = common_call(Calls(line.graph), (line.nodes[at].call for at in places))
    return [Part("stretch", tuple(places), call=call, name=name)]
