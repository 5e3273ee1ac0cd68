"""What can be read of a picture, measured on its SVG: text on a screen, shape, lines that cross, empty paper."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

TAG = "{http://www.w3.org/2000/svg}"
SCREEN, PX = 1280.0, 4 / 3  # CSS pixels of a screen's width, and of a point
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
NOT_BOXES = {"graph", "cluster", "edge", "crossing"}


class Figures(NamedTuple):
    """The figures of a picture: text in CSS pixels, fitted to the screen; ``empty`` a share from 0 to 1."""

    boxes: int
    smallest: float
    median: float
    width: float
    height: float
    crossings: int
    empty: float

    @property
    def shape(self) -> float:
        """Return the height by the width."""
        return self.height / self.width


def figures(svg: str, screen: float = SCREEN) -> Figures:
    """Return the figures of a picture fitted to a screen so many CSS pixels wide."""
    picture = ET.fromstring(svg)  # noqa: S314 - our own
    width, height = (float(word) for word in picture.get("viewBox", "0 0 1 1").split()[2:])
    scale = min(PX, screen / width)
    sizes = [scale * float(text.get("font-size", 0)) for text in picture.iter(f"{TAG}text")]
    boxes = [_bounds(group) for group in _groups(picture, "node")]
    lines = [_polyline(path.get("d", "")) for group in _groups(picture, "edge") for path in _strokes(group)]
    filled = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    empty = 1 - filled / (width * height)
    return Figures(len(boxes), min(sizes), median(sizes), PX * width, PX * height, _crossings(lines), empty)


class Label(NamedTuple):
    """A label of an edge: how far its middle is from that edge, and how far from the nearest other one, in points."""

    edge: str
    own: float
    other: float


def labels(svg: str) -> list[Label]:
    """Return the labels of a picture's edges."""
    groups = list(_groups(ET.fromstring(svg), "edge"))  # noqa: S314 - our own
    curves = [[point for path in _strokes(group) for point in _polyline(path.get("d", ""), 64)] for group in groups]
    names = [group.get("data-id") or group.findtext(f"{TAG}title", "") for group in groups]
    found = []
    for at, group in enumerate(groups):
        for text in list(group.iter(f"{TAG}text"))[:1]:
            plate = [_bounds_of(each) for each in group.iter(f"{TAG}polygon") if each.get("stroke") == "none"]
            if plate and text.text:
                middle = (plate[-1][0] + plate[-1][2]) / 2, (plate[-1][1] + plate[-1][3]) / 2
                others = [_distance(middle, curve) for i, curve in enumerate(curves) if i != at and curve]
                found.append(Label(names[at], _distance(middle, curves[at]), min(others, default=math.inf)))
    return found


def overflowing(svg: str) -> Iterator[str]:
    """Yield the texts that leave their box."""
    for group in _groups(ET.fromstring(svg), "node"):  # noqa: S314 - our own
        left, _, right, _ = _bounds(group)
        for text in group.iter(f"{TAG}text"):
            start, length = float(text.get("x", 0)), float(text.get("textLength", 0))
            start -= length / 2 if text.get("text-anchor") == "middle" else 0
            if start < left or start + length > right:
                yield text.text or ""


def _distance(point: Point, curve: list[Point]) -> float:
    return min(_from_segment(point, a, b) for a, b in pairwise(curve))


def _from_segment(point: Point, a: Point, b: Point) -> float:
    along = (b[0] - a[0], b[1] - a[1])
    length = along[0] ** 2 + along[1] ** 2
    way = ((point[0] - a[0]) * along[0] + (point[1] - a[1]) * along[1]) / length if length else 0.0
    way = min(1.0, max(0.0, way))
    return math.dist(point, (a[0] + way * along[0], a[1] + way * along[1]))


def _bounds_of(shape: ET.Element) -> Rectangle:
    numbers = [float(n) for n in NUMBER.findall(shape.get("points", "") or shape.get("d", ""))]
    xs, ys = numbers[::2], numbers[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _groups(picture: ET.Element, kind: str) -> Iterator[ET.Element]:
    for group in picture.iter(f"{TAG}g"):
        if kind in group.get("class", "").split() and "crossing" not in group.get("class", "").split():
            yield group


def _bounds(group: ET.Element) -> Rectangle:
    found = [_bounds_of(shape) for shape in group.iter() if shape.get("points") or shape.get("d")]
    return min(f[0] for f in found), min(f[1] for f in found), max(f[2] for f in found), max(f[3] for f in found)


def _strokes(group: ET.Element) -> Iterator[ET.Element]:
    yield from list(group.iter(f"{TAG}path"))[:1]


def _polyline(path: str, steps: int = 8) -> list[Point]:
    """Return points along a path of cubic curves, as Graphviz writes it."""
    numbers = [float(n) for n in NUMBER.findall(path)]
    knots = list(zip(numbers[::2], numbers[1::2], strict=True))
    found = knots[:1]
    for a, b, c, d in zip(knots[::3], knots[1::3], knots[2::3], knots[3::3], strict=False):
        for step in range(1, steps + 1):
            t = step / steps
            u = 1 - t
            found.append(tuple(
                u**3 * a[k] + 3 * u * u * t * b[k] + 3 * u * t * t * c[k] + t**3 * d[k] for k in (0, 1)
            ))  # type: ignore[arg-type]  # fmt: skip
    return found


def _crossings(lines: list[list[Point]]) -> int:
    """Return how often two lines cross, those that only meet at their ends not counted."""
    return sum(_cross(one, two) for one, two in combinations(lines, 2))


def _cross(one: list[Point], two: list[Point]) -> bool:
    if not one or not two or not _overlap(_box(one), _box(two)):
        return False
    return any(_intersect(a, b, c, d) for a, b in pairwise(one) for c, d in pairwise(two))


def _box(line: list[Point]) -> Rectangle:
    return min(x for x, _ in line), min(y for _, y in line), max(x for x, _ in line), max(y for _, y in line)


def _overlap(one: Rectangle, two: Rectangle) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _intersect(a: Point, b: Point, c: Point, d: Point) -> bool:
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
