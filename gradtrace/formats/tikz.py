"""The picture as TikZ, in the fonts of the document that it stands in; its places are the layout engine's."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import graphviz

from gradtrace.engine import draw
from gradtrace.engine.widths import width
from gradtrace.fold import fold
from gradtrace.fold.truth import joined
from gradtrace.formats.base import Style, register
from gradtrace.formats.brief import sentences
from gradtrace.formats.foldwords import opening_lines
from gradtrace.formats.numbers import Scale, kind, number
from gradtrace.formats.palette import BORDER, DARK, FILL, INK, LINE, SPECIAL, step
from gradtrace.formats.words import title
from gradtrace.model import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.fold import Box, Folded, Link
    from gradtrace.formats.theme import Theme

__all__ = ["render"]

SMALL = 7.0  # points of the text beside an edge
SIZE, LEADING = 8.0, 10.0  # points of the text in a box, and from line to line
INCH = 72.0
# What TeX would read as more than text, and what its usual fonts have only in mathematics.
MARKS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "‖": r"$\|$", "×": r"$\times$", "∂": r"$\partial$", "→": r"$\to$", "…": r"\dots{}",
    "·": r"$\cdot$", "–": "--", "−": "$-$", '"': "''", "'": "{'}", "`": "{`}",
    "[": "{[}", "]": "{]}", "-": "{-}",
}  # fmt: skip


@register("tikz", ".tikz", ".tex")
def render(report: Report, style: Style) -> str:
    r"""TikZ picture for LaTeX: \usepackage{tikz}, then \input it."""
    folded = fold(report.graph, style.view, report.findings)
    texts = {box.id: [_tex(line) for line in sentences(box, folded)] for box in folded.boxes}
    plain = draw(_skeleton(folded), "plain", style.engine, style.timeout).decode()
    places = [shlex.split(line) for line in plain.replace("\\\n", "").splitlines()]
    text = "\n".join(_lines(report, folded, texts, places)) + "\n"
    return _dressed(text, style.theme) if style.theme else text


def _dressed(text: str, theme: Theme) -> str:
    """Return the picture in a theme's colours; its fonts are the document's."""
    new = {_rgb(plain): _rgb(theme.colored(plain)) for plain in DARK}
    text = text.replace("text=black", f"text={_rgb(INK)}").replace(r"\node[", rf"\node[text={_rgb(INK)},")
    return re.sub(r"\{rgb,255:[\w:,;]+\}", lambda found: new.get(found[0], found[0]), text)


def _skeleton(folded: Folded) -> str:
    """Return the boxes and links in DOT, each box as large as its text."""
    picture = graphviz.Digraph(graph_attr={"nodesep": "0.25", "ranksep": "0.4", "nslimit": "2", "mclimit": "0.1"})
    picture.attr("node", shape="box", fixedsize="true", label="")
    ids = _ids(folded)
    for box in folded.boxes:
        lines = sentences(box, folded)
        widest = max(width(line, "", SIZE) or SIZE * len(line) for line in lines)
        size = {"width": f"{1.2 * widest / INCH + 0.15:.3f}", "height": f"{LEADING * len(lines) / INCH + 0.12:.3f}"}
        picture.node(ids[box.id], **size)
    picture.attr("edge", fontsize=str(SMALL), fontname="Helvetica")
    for link in folded.links:
        # The engine keeps room for a label and says where; TeX's letters may be wider than those it measures.
        picture.edge(ids[link.source], ids[link.target], label=f"   {_flow(link)}  ")
    return str(picture.source)


def _ids(folded: Folded) -> dict[str, str]:
    return {box.id: f"b{at}" for at, box in enumerate(folded.boxes)}


def _lines(report: Report, folded: Folded, texts: dict[str, list[str]], places: list[list[str]]) -> Iterator[str]:
    scale, ids = Scale.of(report.graph), _ids(folded)
    yield from (f"% {_tex(line)}" for line in [title(report), *opening_lines(folded)])
    yield r"\begin{tikzpicture}[x=1in,y=1in,font=\fontsize{8}{10}\selectfont,>=latex]"
    at = {words[1]: words[2:] for words in places if words[0] == "node"}
    for box in folded.boxes:
        x, y, wide, high = at[ids[box.id]][:4]
        look = f"draw={_rgb(_border(box, folded))},fill={_rgb(_fill(box, folded, scale))},rounded corners=2pt"
        size = f"minimum width={wide}in,minimum height={high}in,inner xsep=3pt,inner ysep=0pt,align=center"
        text = r" \\ ".join(texts[box.id])
        yield rf"\node[{look},{size}] ({ids[box.id]}) at ({x},{y}) {{{text}}};"
    links = {(ids[link.source], ids[link.target]): link for link in folded.links}
    for words in places:
        if words[0] == "edge":
            yield _edge(words, links[words[1], words[2]], scale)
    yield r"\end{tikzpicture}"


def _edge(words: list[str], link: Link, scale: Scale) -> str:
    count = int(words[3])
    points = [f"({words[4 + 2 * i]},{words[5 + 2 * i]})" for i in range(count)]
    curve = points[0] + "".join(
        f" .. controls {points[i]} and {points[i + 1]} .. {points[i + 2]}" for i in range(1, count - 2, 3)
    )
    grad = joined([edge.grad for edge in link.edges]).stats
    what, share = kind(grad), scale.share(grad)
    color = step(share, LINE) if what == "finite" else SPECIAL[what]
    dash = {"none": ",dashed", "zero": ",dotted"}.get(what, "")
    line = rf"\draw[->,color={_rgb(color)},line width={0.5 + 2.5 * share:.2f}pt{dash}]"
    x, y = words[5 + 2 * count : 7 + 2 * count]
    label = rf"\node[font=\fontsize{{7}}{{8}}\selectfont,inner sep=0pt] at ({x},{y}) {{{_tex(_flow(link))}}};"
    # The arrow's own end: Graphviz stops where its arrowhead would begin.
    return f"{line} {curve} -- ({words[2]});\n{label}"


def _flow(link: Link) -> str:
    """Return the norm of what flows along a link, or what is there instead."""
    grad = joined([edge.grad for edge in link.edges]).stats
    what = kind(grad)
    return number(grad.norm) if grad and grad.norm is not None and what in {"finite", "zero"} else what


def _border(box: Box, folded: Folded) -> str:
    return BORDER[folded.graph.by_id[box.nodes[0]].kind]


def _fill(box: Box, folded: Folded, scale: Scale) -> str:
    node = folded.graph.by_id[box.nodes[0]]
    grad = box.truth.arrived.stats if box.truth.arrived.tensors else next(iter(node.grads), None)
    return step(scale.share(grad), FILL) if kind(grad) == "finite" else "#ffffff"


def _rgb(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"{{rgb,255:red,{red};green,{green};blue,{blue}}}"


def _tex(text: str) -> str:
    return "".join(MARKS.get(c) or (c if c.isascii() else f"{{U+{ord(c):04X}}}") for c in text)
