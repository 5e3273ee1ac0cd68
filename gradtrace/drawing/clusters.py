"""Frames around the boxes of one module call, nested as the calls are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.drawing.palette import MUTED, SPECIAL
from gradtrace.fold.module_frames import frames_of
from gradtrace.wording.quoting import escaped, one_line, shorten, tooltip

if TYPE_CHECKING:
    from collections.abc import Iterable

    import graphviz

    from gradtrace.fold import Box
    from gradtrace.model import BackwardPass

LONGEST = 80  # characters of a frame's title

__all__ = ["Frames"]


class Frames:
    """Frames of the module calls that have several boxes.

    By call and not by name: a module that is called twice would pull the boxes of both calls together.
    """

    def __init__(self, picture: graphviz.Digraph, graph: BackwardPass, boxes: Iterable[Box], prefix: str = "") -> None:
        self._prefix = prefix
        self._picture, self._graph = picture, graph
        self._home: dict[str, int | None] = {}
        self._around: dict[int, int | None] = {}
        for box_id, framed in frames_of(graph, boxes).items():
            self._home[box_id] = framed[-1] if framed else None
            for outer, inner in zip([None, *framed], framed, strict=False):
                self._around[inner] = outer
        self._frames = {call: self._frame(call) for call in self._around}

    def of(self, box_id: str) -> graphviz.Digraph:
        """Return what to draw a box in: its frame, or the picture."""
        call = self._home.get(box_id)
        return self._picture if call is None else self._frames[call]

    def close(self) -> None:
        """Draw the frames, inner ones into outer ones; to call when all boxes are drawn."""
        depth = {call: len(self._outward(call)) for call in self._frames}
        for call in sorted(self._frames, key=lambda call: (-depth[call], call)):
            outer = self._around[call]
            (self._picture if outer is None else self._frames[outer]).subgraph(self._frames[call])

    def __bool__(self) -> bool:
        """Tell whether there is any frame."""
        return bool(self._frames)

    def _outward(self, call: int | None) -> list[int]:
        outward = []
        while call is not None:
            outward.append(call)
            call = self._graph.calls[call].parent
        return outward

    def _frame(self, call: int) -> graphviz.Digraph:
        made, around = self._graph.calls[call], self._around[call]
        outer = f"{self._graph.calls[around].path}." if around is not None else ""
        # Under the title of the frame around, the rest of the path is enough.
        names = (one_line(made.path.removeprefix(outer)), made.type)
        label = escaped(shorten(" · ".join(filter(None, dict.fromkeys(names))), LONGEST))
        frame = type(self._picture)(f"cluster_{self._prefix}{call}")
        look = {"style": "rounded", "color": SPECIAL["none"], "penwidth": "0.7", "margin": "7", "peripheries": "1"}
        frame.attr(
            label=label,
            labeljust="l",
            labelloc="t",
            fontsize="9",
            fontcolor=MUTED,
            tooltip=tooltip(one_line(made.path) or made.type),
            **look,
        )
        return frame
