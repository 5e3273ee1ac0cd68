"""The views of one pass: the whole of it folded, the inside of each fold, and the whole of it unfolded."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gradtrace.drawing.fold_wording import opening_lines
from gradtrace.errors import UnknownNameError
from gradtrace.fold import Folded, View
from gradtrace.fold.folding import fold
from gradtrace.fold.gradient_summary import joined
from gradtrace.fold.line import line_of
from gradtrace.fold.module_frames import frames_of, lengths
from gradtrace.fold.opened import Inside, opened
from gradtrace.viewer.cards import Cards, Row, flow_text, size_of, text_width
from gradtrace.viewer.layout import Layouts, Plan, Wire
from gradtrace.wording.numbers import Scale, kind
from gradtrace.wording.phrases import differentiated
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradtrace.fold import Box, Link
    from gradtrace.model import BackwardPass, Edge, Finding

__all__ = ["ALL", "ROOT", "Views", "key_of"]

ROOT, ALL = "", "*"  # the keys of the view that a pass begins with, and of the one with nothing folded
FIRST = 100  # boxes that a pass begins with
SPINE = 8  # the weight of a line, for a straight way down; one to a leaf has 1


class _Line(Struct, frozen=True):
    """A line to draw: its ends (empty for outside), its edges, and its text."""

    source: str
    target: str
    edges: tuple[Edge, ...]
    text: str = ""


class _Prepared(Struct, frozen=True):
    """A view before its layout: the boxes with their rows, the lines, the frames by box, and the plan."""

    boxes: tuple[Box, ...]
    lines: tuple[_Line, ...]
    rows: tuple[list[Row], ...]
    frames: dict[str, tuple[int, ...]]
    plan: Plan
    note: list[str]


def key_of(box: Box) -> str:
    """Return the name of a box, which no other fold of the pass has."""
    return f"{box.id}_{len(box.nodes)}" if box.folded else box.id


class Views:
    """Everything that can be seen of a pass, made when it is asked for.

    Args:
        graph: the pass.
        findings: what the checks found in it.
        layouts: those that were made before.
    """

    def __init__(self, graph: BackwardPass, findings: Sequence[Finding] = (), layouts: Layouts | None = None) -> None:
        self.graph, self._findings, self._layouts = graph, findings, layouts or Layouts()
        self._boxes: dict[str, Box] = {}
        self._planned_views: dict[str, _Prepared] = {}

    @cached_property
    def _root(self) -> Folded:
        return fold(self.graph, View(max_nodes=FIRST), self._findings)

    @cached_property
    def _line(self) -> Any:
        return line_of(self._root.graph)

    @cached_property
    def _cards(self) -> Cards:
        return Cards(self._root.graph, differentiated(self.graph), self._scale)

    @cached_property
    def _scale(self) -> Scale:
        return Scale.of(self.graph)

    @cached_property
    def _edge_number(self) -> dict[tuple[str, int, str, int], int]:
        return {_ends(edge): at for at, edge in enumerate(self.graph.edges)}

    @cached_property
    def _position(self) -> dict[str, int]:
        return {node.id: at for at, node in enumerate(self.graph.nodes)}

    def view(self, key: str = ROOT) -> dict[str, Any]:
        """Return a view as the page draws it; raises UnknownNameError for one that there is not."""
        return self._drawn(self._planned_views.pop(key) if key in self._planned_views else self._prepared(key))

    def plan(self, key: str) -> Plan:
        """Return what there is to lay out for a view, to have it done together with others."""
        self._planned_views[key] = self._prepared(key)
        return self._planned_views[key].plan

    def _prepared(self, key: str) -> _Prepared:
        if key in {ROOT, ALL}:
            folded = self._root if key == ROOT else self._unfolded()
            return self._planned(folded, (), frozenset(), opening_lines(folded) if key == ROOT else [])
        inside = opened(self._line, self._box(key), self._findings)
        folded = Folded(self._root.graph, inside.boxes, inside.links)
        return self._planned(folded, self._crossing(inside), inside.around, [])

    def keys(self) -> Iterator[str]:
        """Yield the keys of all folds, those that are seen first before those inside them."""
        waiting = [box for box in self._root.boxes if box.folded]
        for box in waiting:  # which grows
            self._boxes[key_of(box)] = box
            yield key_of(box)
            waiting += [each for each in opened(self._line, box).boxes if each.folded]

    def _unfolded(self) -> Folded:
        return fold(self.graph, View(max_nodes=len(self.graph.nodes) + FIRST), self._findings)

    def _box(self, key: str) -> Box:
        if key not in self._boxes and key not in self.keys():
            raise UnknownNameError(f"unknown fold {key[:60]!r}")
        return self._boxes[key]

    def _crossing(self, inside: Inside) -> list[_Line]:
        entering = [line for link in inside.entering for line in self._lines(link, "", key_of_id(inside, link.target))]
        leaving = [line for link in inside.leaving for line in self._lines(link, key_of_id(inside, link.source), "")]
        return [*entering, *leaving]

    def _planned(self, folded: Folded, crossing: Sequence[_Line], around: frozenset[int], note: list[str]) -> _Prepared:
        keys = {box.id: key_of(box) for box in folded.boxes}
        number = {key: at for at, key in enumerate(keys.values())} | {"": -1}
        least = {(keys[s], keys[t]): length for (s, t), length in lengths(folded).items()}
        lines = [*crossing]
        for link in folded.links:
            lines += self._lines(link, keys[link.source], keys[link.target], folded)
        frames = {keys[box_id]: chain for box_id, chain in frames_of(folded.graph, folded.boxes, around).items()}
        rows = tuple(self._cards.rows(box) for box in folded.boxes)
        wires = tuple(self._wire(line, number, least) for line in lines)
        plan = Plan(tuple(map(size_of, rows)), wires, tuple(frames[key] for key in keys.values()))
        return _Prepared(folded.boxes, tuple(lines), rows, frames, plan, note)

    def _drawn(self, made: _Prepared) -> dict[str, Any]:
        placed = self._layouts.place(made.plan)
        sizes = made.plan.sizes
        return {
            "width": placed.width,
            "height": placed.height,
            "boxes": [
                self._box_data(box, made.rows[i], (*placed.boxes[i], *sizes[i])) for i, box in enumerate(made.boxes)
            ],
            "lines": [self._line_data(line, placed.lines[i], placed.labels[i]) for i, line in enumerate(made.lines)],
            "frames": [
                self._frame_data(call, where, {key: chain for key, chain in made.frames.items() if call in chain})
                for call, where in sorted(placed.frames.items())
            ],
            "note": made.note,
        }

    def _wire(self, line: _Line, number: Mapping[str, int], least: Mapping[tuple[str, str], int]) -> Wire:
        ends, size = (line.source, line.target), _label_size(line.text)
        return Wire(number[line.source], number[line.target], size, self._weight(line), least.get(ends, 1))

    def _box_data(self, box: Box, rows: Sequence[Any], where: Sequence[float]) -> dict[str, Any]:
        positions = sorted(self._position[node_id] for node_id in box.nodes)
        first = self._root.graph.by_id[box.nodes[0]]
        return {
            "key": key_of(box),
            "kind": first.kind if len(box.nodes) == 1 else box.kind,
            "at": [round(value, 1) for value in where],
            "rows": rows,
            "nodes": _ranges(positions),
            "leaves": [self._position[leaf] for leaf in box.leaves],
            "name": self._root.graph.calls[box.call].path if box.kind == "module" and box.call is not None else "",
        }

    def _frame_data(self, call: int, where: Sequence[float], boxes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        found = self._root.graph.calls[call]
        label = " · ".join(filter(None, dict.fromkeys((one_line(found.path), found.type))))
        depth = next(iter(boxes.values())).index(call)
        return {"at": [round(value, 1) for value in where], "label": label, "boxes": [*boxes], "depth": depth}

    def _lines(self, link: Link, source: str, target: str, folded: Folded | None = None) -> Iterator[_Line]:
        """Yield what to draw for a link: a line for each edge, or one for all where an end is a fold or outside."""
        ends = {link.source, link.target}
        bundled = folded is None or any(folded.by_id[each].folded for each in ends)
        for edges in [link.edges] if bundled else [(edge,) for edge in link.edges]:
            together = joined([edge.grad for edge in edges]).stats
            count = f"{len(edges)} edges " if len(edges) > 1 else ""
            yield _Line(source, target, edges, f"{count}{flow_text(together)}".strip())

    def _weight(self, line: _Line) -> int:
        return 1 if all(self._root.graph.by_id[edge.target].kind == "leaf" for edge in line.edges) else SPINE

    def _line_data(self, line: _Line, points: Sequence[float], label: Sequence[float] | None) -> dict[str, Any]:
        together = joined([edge.grad for edge in line.edges]).stats
        return {
            "from": line.source,
            "to": line.target,
            "points": points,
            "text": line.text,
            "label": label,
            "kind": kind(together),
            "share": round(self._scale.share(together), 3),
            "edges": [self._edge_number[_ends(edge)] for edge in line.edges if _ends(edge) in self._edge_number],
        }


def key_of_id(inside: Inside, box_id: str) -> str:
    """Return the key of a box of this id."""
    return next(key_of(box) for box in inside.boxes if box.id == box_id)


def _ends(edge: Edge) -> tuple[str, int, str, int]:
    return edge.source, edge.source_index, edge.target, edge.target_index


def _label_size(text: str) -> tuple[int, int]:
    return (8 * -(-int(text_width(text, 11) + 14) // 8), 15) if text else (0, 0)


def _ranges(positions: Sequence[int]) -> list[list[int]]:
    """Return sorted positions as first and last of each unbroken stretch."""
    starts = [0, *(at for at, (one, two) in enumerate(pairwise(positions), 1) if two != one + 1), len(positions)]
    return [[positions[a], positions[b - 1]] for a, b in pairwise(starts)]
