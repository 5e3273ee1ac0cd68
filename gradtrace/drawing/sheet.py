"""The sheet that a picture is drawn on: boxes in their frames and columns, and lines between them.

It is laid out twice, with boxes as large as the cards to see whether it can be read, and with the cards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.drawing.cards import crossing
from gradtrace.drawing.clusters import Frames
from gradtrace.fold.module_frames import lengths
from gradtrace.fold.ranks import ranks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import graphviz

    from gradtrace.fold import Folded, Link

    Attributes = Mapping[str, str]

__all__ = ["QUICK", "SLOW", "SPACE", "Sheet"]

SLOW = 500  # ranks that all edges span; above, shared leaves are copied and the layout is tuned for speed
QUICK = {"newrank": "true", "nslimit": "2", "mclimit": "0.1"}  # below 1, nslimit makes a slope of a long chain
SPACE = {"pad": "0.15", "nodesep": "0.2", "ranksep": "0.4"}  # inches around the picture and between boxes


class Sheet(Struct, frozen=True):
    """A fold with the look of each box and the column that it stands in."""

    folded: Folded
    boxes: Mapping[str, Attributes]
    column: Mapping[str, int]

    def draw(self, picture: graphviz.Digraph, looks: Callable[[Link], Iterable[Attributes]]) -> None:
        """Draw all into a picture, each link as so many lines as it has ``looks``."""
        self._tune(picture)
        count = 1 + max(self.column.values(), default=0)
        parts = [type(picture)(f"cluster_column_{n}", graph_attr={"peripheries": "0"}) for n in range(count)]
        for at, part in enumerate(parts if count > 1 else [picture]):
            boxes = [box for box in self.folded.boxes if self.column[box.id] == at]
            frames = Frames(part, self.folded.graph, boxes, f"{at}_" if count > 1 else "")
            for box in boxes:
                frames.of(box.id).node(box.id, **self.boxes[box.id])
            frames.close()
        self._draw_links([picture] if count == 1 else parts, looks)
        for part in parts if count > 1 else []:
            part.attr(label="")
            picture.subgraph(part)

    def _tune(self, picture: graphviz.Digraph) -> None:
        """Make the layout quick where it would be slow, and the spine of what is folded or has modules straight."""
        ranks, framed = ranks_of(self.folded), any(box.call is not None for box in self.folded.boxes)
        if sum(ranks[link.target] - ranks[link.source] for link in self.folded.links) > SLOW:
            picture.attr(**QUICK)
        if self.folded.is_folded or framed:
            # A straight spine: else a leaf, often the middle one of three, is straight below.
            picture.attr("edge", weight="8")
        if framed or max(self.column.values(), default=0):
            picture.attr(newrank="true")  # ranks are of the whole: no edge runs upward

    def _draw_links(self, parts: list[graphviz.Digraph], looks: Callable[[Link], Iterable[Attributes]]) -> None:
        """Draw the lines; one that crosses into another column ends at a number, and goes on from the same one."""
        crossed, least = 0, lengths(self.folded)
        for link in self.folded.links:
            length = least.get((link.source, link.target))
            here, there = self.column[link.source], self.column[link.target]
            for look in looks(link):
                if here == there:
                    more = {"minlen": str(length)} if length else {}
                    parts[here].edge(link.source, link.target, **look, **more)
                    continue
                crossed += 1
                ends = (
                    (f"to_{crossed}", crossing(crossed, f"to column {there + 1}")),
                    (
                        f"from_{crossed}",
                        crossing(crossed, f"from column {here + 1}"),
                    ),
                )
                for part, (name, label) in zip((parts[here], parts[there]), ends, strict=True):
                    part.node(name, label, shape="plain", fixedsize="false", **{"class": "crossing"})
                parts[here].edge(link.source, ends[0][0], **look)
                parts[there].edge(ends[1][0], link.target, **look)
