"""What can be read of a picture, measured on its SVG: text on a screen, shape, lines that cross, empty paper."""

from __future__ import annotations

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


def _groups(picture: ET.Element, kind: str) -> Iterator[ET.Element]:
    for group in picture.iter(f"{TAG}g"):
        if kind in group.get("class", "").split() and "crossing" not in group.get("class", "").split():
            yield group


def _bounds(group: ET.Element) -> Rectangle:
    points: list[Point] = []
    for shape in group.iter():
        numbers = [float(n) for n in NUMBER.findall(shape.get("points", "") or shape.get("d", ""))]
        points += list(zip(numbers[::2], numbers[1::2], strict=True))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


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
