"""Layout of a graph by dot, in the engine's child process, with columns and edge labels placed afterwards.

A graph is laid out without the labels of its edges, so that its ranks are close, and each of its columns (the
subgraphs ``cluster_column_0``, ``cluster_column_1`` …) by itself: in one layout all columns would have the same
ranks, and a tall box in one would leave a gap in all. Then each label is placed on its own edge, and everything is
drawn as it stands, which Graphviz calls ``nop2``.
"""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from gradtrace.engine.label_places import Drawn, Rectangle, curve_of, moved, places
from gradtrace.engine.widths import width

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Graph", "laid_out", "size_of"]

BESIDE = 18.0  # points between columns
COLUMN = b"cluster_column_%d"
TITLE = 11.0  # points of height of a frame's title


class Graph:
    """A graph in Graphviz's memory."""

    def __init__(self, gv: Any, context: object, text: bytes, root: object) -> None:
        self.gv, self._context, self.text, self.root = gv, context, text, root

    @classmethod
    def read(cls, gv: Any, context: object, text: bytes) -> Graph:
        """Return the graph of this DOT text; raises ValueError."""
        with TemporaryFile() as file:
            file.write(text)
            file.seek(0)
            return cls(gv, context, text, gv.agread(file, None))

    def copy(self) -> Graph:
        """Return the graph as it was read."""
        return Graph.read(self.gv, self._context, self.text)

    def lay_out(self, engine: bytes) -> None:
        """Lay the graph out; raises ValueError."""
        if self.gv.gvLayout(self._context, self.root, engine):
            raise ValueError(engine)

    def rendered(self, output: str) -> bytes:
        """Return the graph, laid out, in a format of Graphviz; raises ValueError."""
        failed, picture = self.gv.gvRenderData(self._context, self.root, output.encode())
        if failed:
            raise ValueError(output)
        rendered: bytes = picture
        return rendered

    def set_dpi(self, dpi: int) -> None:
        """Set the dots per inch of a PNG."""
        self.gv.agattr(self.root, self.gv.AGRAPH, b"dpi", str(dpi).encode())
        self.gv.gvFreeLayout(self._context, self.root)
        self.lay_out(b"nop2")

    def attribute(self, thing: object, name: bytes) -> str:
        """Return an attribute, empty if it is not set."""
        return (self.gv.agget(thing, name) or b"").decode()

    def assign(self, thing: object, name: bytes, value: str) -> None:
        """Set an attribute; a label in brackets is an HTML-like one."""
        self.gv.agsafeset_label(self.root, thing, name, value.encode(), b"")

    @property
    def nodes(self) -> dict[bytes, Any]:
        """The nodes by name."""
        return self._nodes_of(self.root)

    @property
    def edges(self) -> list[Any]:
        """The edges, tail after tail."""
        gv, root = self.gv, self.root
        return [
            edge
            for node in self.nodes.values()
            for edge in _all(lambda node=node: gv.agfstout(root, node), lambda edge: gv.agnxtout(root, edge))
        ]

    @property
    def subgraphs(self) -> dict[bytes, Any]:
        """The subgraphs at any depth, by name."""
        by_name, waiting = dict[bytes, Any](), [self.root]
        while waiting:
            around = waiting.pop()
            inner = _all(lambda around=around: self.gv.agfstsubg(around), self.gv.agnxtsubg)
            by_name |= {self.gv.agnameof(each): each for each in inner}
            waiting += inner
        return by_name

    def columns(self) -> list[set[bytes]]:
        """Return the names of the nodes in each column; of all nodes, where there is one."""
        subgraphs, columns = self.subgraphs, list[set[bytes]]()
        while COLUMN % len(columns) in subgraphs:
            columns.append(set(self._nodes_of(subgraphs[COLUMN % len(columns)])))
        return columns if len(columns) > 1 else [set(self.nodes)]

    def keep(self, names: set[bytes]) -> None:
        """Delete other nodes, and the labels that have no place of their own: the title's and the edges'."""
        for name, node in self.nodes.items():
            if name not in names:
                self.gv.agdelnode(self.root, node)
        for thing in (self.root, *self.edges):
            if self.attribute(thing, b"label"):
                self.assign(thing, b"label", "")

    def _nodes_of(self, graph: object) -> dict[bytes, Any]:
        gv = self.gv
        return {gv.agnameof(node): node for node in _all(lambda: gv.agfstnode(graph), lambda n: gv.agnxtnode(graph, n))}


def size_of(graph: Graph) -> bytes:
    """Return the width and the height of all columns in points, without the title."""
    rights, tops = zip(*(_bounds(part) for _, part in _parts(graph)), strict=True)
    return f"{sum(rights) + BESIDE * (len(rights) - 1):.3f} {max(tops):.3f}".encode()


def _parts(graph: Graph) -> Iterator[tuple[set[bytes], Graph]]:
    """Yield each column, by the names of its nodes, laid out by itself."""
    for names in graph.columns():
        part = graph.copy()
        part.keep(names)
        part.lay_out(b"dot")
        part.rendered("dot")  # writes the layout into the attributes
        yield names, part


def _bounds(part: Graph) -> tuple[float, float]:
    """Return the right and the top of a layout, whose left and bottom are 0."""
    _, _, right, top = (float(word) for word in part.attribute(part.root, b"bb").split(","))
    return right, top


def laid_out(graph: Graph) -> Graph:
    """Return the graph laid out; raises ValueError if a layout fails."""
    left, edges = 0.0, graph.edges
    for names, part in _parts(graph):
        right, top = _bounds(part)
        _take(graph, part, (left, -top), [e for e in edges if graph.gv.agnameof(graph.gv.agtail(e)) in names])
        left += right + BESIDE
    _place_labels(graph, edges)
    graph.lay_out(b"nop2")
    return graph


def _take(graph: Graph, part: Graph, by: tuple[float, float], edges: list[Any]) -> None:
    """Copy the layout of one column, moved so that the tops of all columns are in one line."""
    nodes, subgraphs = graph.nodes, graph.subgraphs
    for name, node in part.nodes.items():
        graph.assign(nodes[name], b"pos", moved(part.attribute(node, b"pos"), by))
        for key in (b"width", b"height"):
            graph.assign(nodes[name], key, part.attribute(node, key))
    for mine, other in zip(edges, part.edges, strict=True):
        graph.assign(mine, b"pos", moved(part.attribute(other, b"pos"), by))
    for name, subgraph in part.subgraphs.items():
        for key in (b"bb", b"lp"):
            place = part.attribute(subgraph, key)
            if place:
                graph.assign(subgraphs[name], key, moved(place, by))
        for key in (b"lwidth", b"lheight"):
            graph.assign(subgraphs[name], key, part.attribute(subgraph, key))


def _place_labels(graph: Graph, edges: list[Any]) -> None:
    """Place the label of each edge on it."""
    drawn = [Drawn(curve_of(graph.attribute(edge, b"pos")), graph.attribute(edge, b"label")) for edge in edges]
    boxes = [*map(_box, [graph] * len(graph.nodes), graph.nodes.values()), *_titles(graph)]
    middles = places(drawn, boxes, lambda text: width(text, "", 9.0) or 5.0 * len(text))
    for edge, (x, y) in zip(edges, middles, strict=True):
        graph.assign(edge, b"lp", f"{x:.2f},{y:.2f}")


def _box(graph: Graph, node: Any) -> Rectangle:
    x, y = (float(part) for part in graph.attribute(node, b"pos").split(","))
    wide, high = (36 * float(graph.attribute(node, name)) for name in (b"width", b"height"))
    return x - wide, y - high, x + wide, y + high


def _titles(graph: Graph) -> list[Rectangle]:
    """Return the places of the titles of frames."""
    titles = []
    for subgraph in graph.subgraphs.values():
        if graph.attribute(subgraph, b"lp"):
            x, y = (float(part) for part in graph.attribute(subgraph, b"lp").split(","))
            wide = 36 * float(graph.attribute(subgraph, b"lwidth") or 0)
            titles.append((x - wide, y - TITLE / 2, x + wide, y + TITLE / 2))
    return titles


def _all(first: Any, after: Any) -> list[Any]:
    """Return the items of an iterator of the bindings, which ends by StopIteration or None."""
    things = []
    try:
        one = first()
        while one is not None:
            things.append(one)
            one = after(one)
    except StopIteration:
        pass
    return things
