"""Label places of edges: each on its own line, as far from the others as possible.

Graphviz puts a label beside the middle of its edge, often nearer to another one. The module runs in the engine's
child process, and so imports nothing but the standard library and the widths of the fonts.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from html import unescape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Drawn", "Rectangle", "curve_of", "moved", "places"]

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # left, bottom, right, top

SIZE, LINE_HEIGHT, AROUND = 9.0, 11.0, 2.0  # points of a label's text, and around it
STEP = 4.0  # points between samples of a curve
CELL = 32.0  # points across of a cell of the grid
CLEAR = 24.0  # points of distance from other lines that are enough
WAYS = (0.5, 0.45, 0.55, 0.4, 0.6, 0.35, 0.65, 0.3, 0.7, 0.25, 0.75, 0.2, 0.8, 0.15, 0.85)  # of its line, best first
ARROW = 8.0  # points at the end of a line that its arrowhead takes
FAR_OFF = 0.4  # points of clearance that outweigh a tenth of the line's length off its middle
PAIR = re.compile(r"(-?\d[\d.e+-]*),(-?\d[\d.e+-]*)")
TAG = re.compile(r"<[^>]*>")


class Drawn(NamedTuple):
    """An edge as it was laid out: points along its curve, and the text to put on it."""

    curve: list[Point]
    label: str


def curve_of(position: str) -> list[Point]:
    """Return points along an edge, evenly apart, from Graphviz's ``pos``: ``e,x,y x,y x,y x,y x,y``."""
    knots = [_point(word) for word in position.split() if word[0] not in "es"]
    ends = {word[0]: _point(word[2:]) for word in position.split() if word[0] in "es"}
    curve = knots[:1]
    for a, b, c, d in zip(knots[::3], knots[1::3], knots[2::3], knots[3::3], strict=False):
        steps = max(2, round((math.dist(a, b) + math.dist(b, c) + math.dist(c, d)) / STEP))
        curve += [_bezier((a, b, c, d), step / steps) for step in range(1, steps + 1)]
    return [*([ends["s"]] if "s" in ends else []), *curve, *([ends["e"]] if "e" in ends else [])]


def moved(place: str, by: Point) -> str:
    """Return points in Graphviz's syntax, moved by an offset."""

    def each(pair: re.Match[str]) -> str:
        return f"{float(pair[1]) + by[0]:.3f},{float(pair[2]) + by[1]:.3f}"

    return PAIR.sub(each, place)


def places(edges: list[Drawn], boxes: Iterable[Rectangle], width: Callable[[str], float]) -> list[Point]:
    """Return the middle of each edge's label; without text, the middle of its curve."""
    grid = _Grid(edges, boxes)
    middles = [_along(edge.curve, 0.5) for edge in edges]
    # Shortest first, because it has the fewest places.
    for at in sorted(range(len(edges)), key=lambda at: len(edges[at].curve)):
        text = unescape(TAG.sub("", edges[at].label)).strip()
        if text:
            half = (width(text) / 2 + AROUND, LINE_HEIGHT / 2 + AROUND / 2)
            middles[at] = max(_tries(edges[at].curve), key=lambda tried: grid.worth(at, tried, half))[0]
            grid.take(middles[at], half)
    return middles


def _tries(curve: list[Point]) -> Iterator[tuple[Point, float]]:
    """Yield places on a curve, the middle first, each with the cost of its distance from the middle."""
    yield from ((_along(curve, way), 10 * abs(way - 0.5) * FAR_OFF) for way in WAYS)


class _Grid:
    """Lines, boxes and labels by the cell of the paper that they are in."""

    def __init__(self, edges: list[Drawn], boxes: Iterable[Rectangle]) -> None:
        self._lines: Mapping[tuple[int, int], list[tuple[int, Point]]] = defaultdict(list)
        self._taken: Mapping[tuple[int, int], list[Rectangle]] = defaultdict(list)
        self._ends = [edge.curve[-1] for edge in edges]
        for at, edge in enumerate(edges):
            for point in edge.curve:
                self._lines[_cell(point)].append((at, point))
        for box in boxes:
            self._cover(box)

    def worth(self, at: int, tried: tuple[Point, float], half: Point) -> float:
        """Return the score of a place for the label of an edge: the distance from others, less the overlap."""
        (x, y), cost = tried
        mine = (x - half[0], y - half[1], x + half[0], y + half[1])
        overlap = sum(_overlap(mine, other) for other in self._covered(mine))
        overlap += max(0.0, ARROW - _distance(mine, self._ends[at]))
        near = min((_distance(mine, point) for point in self._others(at, mine)), default=CLEAR)
        crossed = 0.0 if near else CLEAR - min([CLEAR, *(math.dist((x, y), p) for p in self._others(at, mine))])
        return min(near, CLEAR) - cost - crossed - 10 * overlap

    def take(self, middle: Point, half: Point) -> None:
        """Reserve the place of a label."""
        self._cover((middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]))

    def _cover(self, box: Rectangle) -> None:
        for cell in _cells(box, 0):
            self._taken[cell].append(box)

    def _covered(self, mine: Rectangle) -> set[Rectangle]:
        return {box for cell in _cells(mine, 0) for box in self._taken.get(cell, ())}

    def _others(self, at: int, mine: Rectangle) -> Iterator[Point]:
        for cell in _cells(mine, CLEAR):
            yield from (point for other, point in self._lines.get(cell, ()) if other != at)


def _cells(box: Rectangle, around: float) -> Iterator[tuple[int, int]]:
    left, bottom = _cell((box[0] - around, box[1] - around))
    right, top = _cell((box[2] + around, box[3] + around))
    yield from ((x, y) for x in range(left, right + 1) for y in range(bottom, top + 1))


def _cell(point: Point) -> tuple[int, int]:
    return int(point[0] // CELL), int(point[1] // CELL)


def _distance(box: Rectangle, point: Point) -> float:
    return math.hypot(max(box[0] - point[0], 0, point[0] - box[2]), max(box[1] - point[1], 0, point[1] - box[3]))


def _overlap(one: Rectangle, two: Rectangle) -> float:
    """Return the overlap of two rectangles, the lesser of across and down; 0 if they don't overlap."""
    return max(0.0, min(min(one[2], two[2]) - max(one[0], two[0]), min(one[3], two[3]) - max(one[1], two[1])))


def _along(curve: list[Point], way: float) -> Point:
    """Return the point at a part of a curve's length, from 0 to 1."""
    lengths = [math.dist(a, b) for a, b in pairwise(curve)]
    rest = way * sum(lengths)
    for (a, b), length in zip(pairwise(curve), lengths, strict=True):
        if rest <= length and length:
            return a[0] + (b[0] - a[0]) * rest / length, a[1] + (b[1] - a[1]) * rest / length
        rest -= length
    return curve[-1]


def _bezier(knots: tuple[Point, Point, Point, Point], t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
    x, y = (sum(w * knot[axis] for w, knot in zip(weights, knots, strict=True)) for axis in (0, 1))
    return x, y


def _point(text: str) -> Point:
    x, y = text.split(",")[-2:]
    return float(x), float(y)
