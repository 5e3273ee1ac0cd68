"""Where everything stands: boxes of known size, the lines between them and the frames around them, by Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gradtrace.engine import layouts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import graphviz

__all__ = ["Layouts", "Placed", "Plan", "Wire"]

SLOW = 500  # ranks that all lines span; above, the layout is tuned for speed
QUICK = {"nslimit": "2", "mclimit": "0.1"}
GAP = {"nodesep": "0.3", "ranksep": "0.36"}
IN, OUT = "in", "out"  # the ends of lines that cross the border of a fold
POINTS = 72  # an inch


class Wire(Struct, frozen=True):
    """A line to lay out: its ends (-1 for outside), the size of its label, and the ranks that it spans at least."""

    source: int
    target: int
    label: tuple[int, int] = (0, 0)
    weight: int = 1
    length: int = 1


class Plan(Struct, frozen=True):
    """What is to be laid out: the sizes of boxes, the lines, and the frames that each box is in, outermost first."""

    sizes: tuple[tuple[int, int], ...]
    wires: tuple[Wire, ...]
    frames: tuple[tuple[int, ...], ...]


class Placed(Struct, frozen=True):
    """Where it stands, in points from the top left.

    ``boxes`` are the top left corners, ``lines`` the points of each line's curve (start, then three for each
    Bézier piece), ``labels`` the middles of the labels, ``frames`` left, top, width and height by call.
    """

    width: float
    height: float
    boxes: tuple[tuple[float, float], ...]
    lines: tuple[tuple[float, ...], ...]
    labels: tuple[tuple[float, float] | None, ...]
    frames: dict[int, tuple[float, float, float, float]]


class Layouts:
    """Layouts that are made when they are asked for, or many at once; folds that look alike are laid out once.

    Args:
        timeout: seconds that one child process may take.
    """

    def __init__(self, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._made: dict[Plan, Placed] = {}

    def prepare(self, plans: Sequence[Plan]) -> None:
        """Make these layouts, in one child process. Raises EngineError."""
        missing = list(dict.fromkeys(plan for plan in plans if plan not in self._made))
        for plan, drawn in zip(missing, layouts([_dot(plan) for plan in missing], self._timeout), strict=True):
            self._made[plan] = _placed(plan, drawn)

    def place(self, plan: Plan) -> Placed:
        """Return where everything stands. Raises EngineError."""
        if plan not in self._made:
            self.prepare([plan])
        return self._made[plan]


def _placed(plan: Plan, drawn: dict[str, Any]) -> Placed:
    _, _, width, height = _numbers(drawn["bb"])
    boxes: dict[int, tuple[float, float]] = {}
    frames: dict[int, tuple[float, float, float, float]] = {}
    for each in drawn.get("objects", ()):
        name = each["name"]
        if name.startswith("cluster_"):
            left, bottom, right, top = _numbers(each["bb"])
            frames[int(name.removeprefix("cluster_"))] = (left, height - top, right - left, top - bottom)
        elif name.isdecimal():
            x, y = _numbers(each["pos"])
            wide, high = plan.sizes[int(name)]
            boxes[int(name)] = (x - wide / 2, height - y - high / 2)
    edges = {int(each["id"]): each for each in drawn.get("edges", ())}
    return Placed(
        width,
        height,
        tuple(boxes[at] for at in range(len(plan.sizes))),
        tuple(_curve(edges[at].get("pos", ""), height) for at in range(len(plan.wires))),
        tuple(_label(edges[at].get("lp", ""), height) for at in range(len(plan.wires))),
        frames,
    )


def _dot(plan: Plan) -> str:
    from graphviz import Digraph  # noqa: PLC0415 - 15 ms that only a drawing needs

    picture = Digraph(graph_attr={**GAP, "newrank": "true", "fontsize": "10"}, node_attr={"label": "", "shape": "box"})
    if _span(plan) > SLOW:
        picture.attr(**QUICK)
    homes = _clusters(picture, plan.frames)
    for at, (wide, high) in enumerate(plan.sizes):
        home = homes[plan.frames[at][-1]] if plan.frames[at] else picture
        home.node(str(at), width=f"{wide / POINTS:.4f}", height=f"{high / POINTS:.4f}", fixedsize="true")
    for name in dict.fromkeys(_ends(plan)):
        picture.node(name, shape="point", width="0.02", height="0.02")
    _close(picture, homes, plan.frames)
    for at, wire in enumerate(plan.wires):
        picture.edge(*_names(wire), **_edge(at, wire))
    return str(picture.source)


def _names(wire: Wire) -> tuple[str, str]:
    return IN if wire.source < 0 else str(wire.source), OUT if wire.target < 0 else str(wire.target)


def _ends(plan: Plan) -> list[str]:
    return [name for wire in plan.wires for name in _names(wire) if not name.isdecimal()]


def _edge(at: int, wire: Wire) -> dict[str, str]:
    look = {"id": str(at), "weight": str(wire.weight)}
    if wire.length > 1:
        look["minlen"] = str(wire.length)
    if wire.label[0]:
        wide, high = wire.label
        look["label"] = (
            f'<<table border="0" fixedsize="true" width="{wide}" height="{high}"><tr><td></td></tr></table>>'
        )
    return look


def _clusters(picture: graphviz.Digraph, frames: Sequence[Sequence[int]]) -> dict[int, graphviz.Digraph]:
    calls = dict.fromkeys(call for chain in frames for call in chain)
    space = {"margin": "9", "label": " ", "fontsize": "11"}
    return {call: type(picture)(f"cluster_{call}", graph_attr=space) for call in calls}


def _close(picture: graphviz.Digraph, homes: Mapping[int, graphviz.Digraph], frames: Sequence[Sequence[int]]) -> None:
    """Put each frame into the one around it, the innermost first."""
    around = {
        call: (chain[depth - 1] if depth else None, depth) for chain in frames for depth, call in enumerate(chain)
    }
    for call, (outer, _) in sorted(around.items(), key=lambda item: -item[1][1]):
        (picture if outer is None else homes[outer]).subgraph(homes[call])


def _span(plan: Plan) -> int:
    """Return about how many ranks all lines span, boxes standing in their order."""
    return sum(abs(wire.target - wire.source) for wire in plan.wires if min(wire.source, wire.target) >= 0)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _curve(text: str, height: float) -> tuple[float, ...]:
    """Return the points of a line; an arrow's tip is its last."""
    tip: list[float] = []
    points: list[float] = []
    for word in text.split():
        if word.startswith("e,"):
            tip = _numbers(word[2:])
        else:
            points += _numbers(word)
    if tip and points:
        points[-2:] = tip
    return tuple(round(value if at % 2 == 0 else height - value, 1) for at, value in enumerate(points))


def _label(text: str, height: float) -> tuple[float, float] | None:
    if not text:
        return None
    x, y = _numbers(text)
    return round(x, 1), round(height - y, 1)
