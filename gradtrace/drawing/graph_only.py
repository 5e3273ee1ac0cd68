"""The graph alone, without a number: DOT text in little more time than the walk takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.drawing.palette import BORDER, CARD, FONT, INK, LINE
from gradtrace.wording.quoting import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    import graphviz

__all__ = ["structure_dot"]

_NODE = {"shape": "box", "style": "rounded,filled", "fillcolor": CARD, "color": BORDER["function"], "fontcolor": INK}
_FONT = {"fontname": FONT, "fontsize": "11"}
_Shape = tuple[int, ...]


def structure_dot(
    ops: Sequence[str],
    edges: Sequence[tuple[int, int]],
    leaves: dict[int, tuple[str, _Shape]],
    outputs: Sequence[tuple[int, str, _Shape]],
) -> graphviz.Digraph:
    """Return nodes ``n0``, ``n1``, … by position with their ops, and ``o0``, … for the outputs above them."""
    from graphviz import Digraph  # noqa: PLC0415 - 15 ms that only a drawing needs

    dot = Digraph(node_attr={**_NODE, **_FONT}, edge_attr={"color": LINE[1], "arrowsize": "0.7"})
    body = dot.body  # filled at once: Digraph.node() takes ten times as long
    for at, (position, name, shape) in enumerate(outputs):
        body.append(f'\to{at} [label="{_tensor(name or "output", shape)}" color="{BORDER["output"]}" penwidth=2]\n')
        body.append(f"\to{at} -> n{position}\n")
    for position, op in enumerate(ops):
        if position in leaves:
            name, shape = leaves[position]
            text = _tensor(name or "leaf", shape)
            body.append(f'\tn{position} [label="{text}" color="{BORDER["leaf"]}" penwidth=2]\n')
        else:
            body.append(f'\tn{position} [label="{_escaped(op)}"]\n')
    body += [f"\tn{source} -> n{target}\n" for source, target in edges]
    return dot


def _tensor(name: str, shape: _Shape) -> str:
    return f"{_escaped(name)}\\n({', '.join(map(str, shape))})"


def _escaped(text: str) -> str:
    return visible(text).replace("\\", "\\\\").replace('"', '\\"')
