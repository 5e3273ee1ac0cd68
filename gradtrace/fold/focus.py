"""A few nodes with what is around them, and all else in a box before, a box behind, and what lies between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.fold.boxes import Opening
from gradtrace.fold.build import built
from gradtrace.fold.groups import Calls, Part, common_call
from gradtrace.fold.line import line_of
from gradtrace.fold.selection import around, reaching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.fold.boxes import Folded, View
    from gradtrace.fold.line import Line
    from gradtrace.model import BackwardPass, Finding

__all__ = ["focused"]

BEFORE, BETWEEN, BEHIND = "before", "between", "behind"


def focused(graph: BackwardPass, view: View, findings: Sequence[Finding]) -> Folded:
    """Return the nodes in focus and those around them, each in a box of its own, the rest in as few as make no cycle.

    Where none of the rest leads to those shown, it stands behind them, and where none of those shown leads
    to it, before them: both are one box. What has some of them on either side is folded stretch by stretch.
    """
    line, shown = line_of(graph), around(graph, view.focus, view.radius)
    leading = reaching(graph, shown)
    led_to = {node.id for node in graph.nodes} - _ahead(line, shown)
    places: dict[str, list[int]] = {BEFORE: [], BETWEEN: [], BEHIND: []}
    for at, node in enumerate(line.nodes):
        where = BEHIND if node.id not in leading else BETWEEN if node.id in led_to else BEFORE
        places[BETWEEN if node.id in shown else where].append(at)
    middle = _middle(line, places[BETWEEN], shown)
    stubs = [*_stub(line, places[BEFORE], BEFORE), *middle, *_stub(line, places[BEHIND], BEHIND)]
    what = f"{view.focus} and {view.radius} step{'s' * (view.radius != 1)} around it"
    opening = Opening(f"all but {what}", f"--radius {view.radius + 3}")
    return built(line, stubs, (opening,) if any(part.name for part in stubs) else (), findings)


def _ahead(line: Line, shown: set[str]) -> set[str]:
    """Return the ids of the nodes to which no way leads from those shown, and that are none of them."""
    reached = set(shown)
    for at, node in enumerate(line.nodes):
        if node.id in reached:
            reached.update(line.nodes[target].id for target, _ in line.onward[at])
    return {node.id for node in line.graph.nodes} - reached


def _middle(line: Line, places: Sequence[int], shown: set[str]) -> list[Part]:
    """Return what is shown, one by one, and what stands between on the line, stretch by stretch."""
    parts: list[Part] = []
    stretch: list[int] = []
    for at in places:
        if line.nodes[at].id in shown:
            parts += [*_stub(line, stretch, BETWEEN), Part("node", (at,), call=line.nodes[at].call)]
            stretch = []
        else:
            stretch.append(at)
    return [*parts, *_stub(line, stretch, BETWEEN)]


def _stub(line: Line, places: Sequence[int], name: str) -> list[Part]:
    if not places:
        return []
    call = common_call(Calls(line.graph), (line.nodes[at].call for at in places))
    return [Part("stretch", tuple(places), call=call, name=name)]
