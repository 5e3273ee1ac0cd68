"""The picture as TikZ, in the fonts of the document that it stands in; its places are the layout engine's."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.drawing.columns import columns_of
from gradtrace.drawing.digraph import folded_for
from gradtrace.drawing.fold_wording import opening_lines
from gradtrace.drawing.palette import BORDER, DARK, FILL, INK, LINE, SPECIAL, step
from gradtrace.drawing.plain_boxes import sentences
from gradtrace.drawing.sheet import QUICK
from gradtrace.drawing.sizes import Size
from gradtrace.engine import draw
from gradtrace.engine.widths import width
from gradtrace.fold import Box, Folded, Link
from gradtrace.fold.gradient_summary import joined
from gradtrace.fold.module_frames import lengths
from gradtrace.formats.base import Style, register
from gradtrace.model import Report
from gradtrace.wording.numbers import Scale, kind, number
from gradtrace.wording.phrases import title
from gradtrace.wording.quoting import tex_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.drawing.theme import Theme

__all__ = ["render"]

SMALL = 7.0  # points of the text beside an edge
SIZE, LEADING = 8.0, 10.0  # points of the text in a box, and from line to line
INCH = 72.0
MANY = 300  # lines above which the layout is tuned for speed
CROSSING = 16.0  # points across of the number at which a line leaves its column


@register("tikz", ".tikz", ".tex")
def render(report: Report, style: Style) -> str:
    r"""TikZ picture for LaTeX: \usepackage{tikz}, then \input it."""
    folded = folded_for(report, replace(style, page=True))
    texts = {box.id: [tex_text(line) for line in sentences(box, folded)] for box in folded.boxes}
    sheet = _Sheet.of(folded, style.columns)
    plain = draw(sheet.skeleton(folded), "plain", style.engine, style.timeout).decode()
    places = [shlex.split(line) for line in plain.replace("\\\n", "").splitlines()]
    picture = _Picture(folded, Scale.of(report.graph), sheet, texts)
    heading = [f"% {tex_text(line)}" for line in [title(report), *opening_lines(folded)]]
    text = "\n".join([*heading, *picture.lines(places)]) + "\n"
    return _dressed(text, style.theme) if style.theme else text


def _dressed(text: str, theme: Theme) -> str:
    """Return the picture in a theme's colours; its fonts are the document's."""
    new = {_rgb(plain): _rgb(theme.colored(plain)) for plain in DARK}
    text = text.replace("text=black", f"text={_rgb(INK)}").replace(r"\node[", rf"\node[text={_rgb(INK)},")
    return re.sub(r"\{rgb,255:[\w:,;]+\}", lambda match: new.get(match[0], match[0]), text)


class _Sheet(Struct, frozen=True):
    """Skeleton of the layout: the boxes by their name in TeX with their size and column, and the lines between names.

    A line that leads into another column ends at a number, and goes on from the same one.
    """

    ids: dict[str, str]
    sizes: dict[str, Size]
    column: dict[str, int]
    ends: dict[tuple[str, str], Link]

    @classmethod
    def of(cls, folded: Folded, columns: str) -> _Sheet:
        """Return the sheet of a fold, in as many columns as asked for."""
        ids = {box.id: f"b{at}" for at, box in enumerate(folded.boxes)}
        sizes = {box.id: _size(sentences(box, folded)) for box in folded.boxes}
        column = {ids[box_id]: at for box_id, at in columns_of(folded, sizes, columns).items()}
        ends: dict[tuple[str, str], Link] = {}
        crossed = 0
        for link in folded.links:
            source, target = ids[link.source], ids[link.target]
            if column[source] == column[target]:
                ends[source, target] = link
                continue
            crossed += 1
            column |= {f"to{crossed}": column[source], f"from{crossed}": column[target]}
            ends |= {(source, f"to{crossed}"): link, (f"from{crossed}", target): link}
        return cls(ids, {ids[box_id]: size for box_id, size in sizes.items()}, column, ends)

    def skeleton(self, folded: Folded) -> str:
        """Return the boxes and lines in DOT, each box as large as its text."""
        from graphviz import Digraph  # noqa: PLC0415 - 15 ms that only a drawing needs

        least = {(self.ids[a], self.ids[b]): length for (a, b), length in lengths(folded).items()}
        picture = Digraph(
            graph_attr={
                "nodesep": "0.25",
                "ranksep": "0.4",
                "newrank": "true",
                **(QUICK if len(self.ends) > MANY else {}),
            }
        )
        picture.attr("node", shape="box", fixedsize="true", label="")
        parts = [Digraph(f"cluster_{at}") for at in range(1 + max(self.column.values(), default=0))]
        for name, at in self.column.items():
            wide, high = self.sizes.get(name, (CROSSING, CROSSING))
            parts[at].node(name, width=f"{wide / INCH:.3f}", height=f"{high / INCH:.3f}")
        picture.attr("edge", fontsize=str(SMALL), fontname="Helvetica")
        for (source, target), link in self.ends.items():
            length = least.get((source, target))
            look = {"label": _flow(link), **({"minlen": str(length)} if length else {})}
            parts[self.column[source]].edge(source, target, **look)
        for part in parts:
            picture.subgraph(part)
        return str(picture.source)


def _size(lines: list[str]) -> Size:
    widest = max(width(line, "", SIZE) or SIZE * len(line) for line in lines)
    return 1.2 * widest + 0.15 * INCH, LEADING * len(lines) + 0.12 * INCH


class _Picture(Struct, frozen=True):
    """A fold, and how it looks in TeX."""

    folded: Folded
    scale: Scale
    sheet: _Sheet
    texts: dict[str, list[str]]

    def lines(self, places: list[list[str]]) -> Iterator[str]:
        """Yield the picture, each thing at the place that the engine gave it."""
        yield r"\begin{tikzpicture}[x=1in,y=1in,font=\fontsize{8}{10}\selectfont,>=latex]"
        at = {words[1]: words[2:] for words in places if words[0] == "node"}
        yield from (self._box(box, at[self.sheet.ids[box.id]]) for box in self.folded.boxes)
        for name in list(self.sheet.column)[len(self.sheet.ids) :]:
            look = f"circle,draw={_rgb(SPECIAL['none'])},minimum width={CROSSING}pt,inner sep=0pt"
            number_of = name.removeprefix("to").removeprefix("from")
            yield rf"\node[{look}] ({name}) at ({at[name][0]},{at[name][1]}) {{{number_of}}};"
        yield from (
            _edge(words, self.sheet.ends[words[1], words[2]], self.scale) for words in places if words[0] == "edge"
        )
        yield r"\end{tikzpicture}"

    def _box(self, box: Box, place: list[str]) -> str:
        x, y, wide, high = place[:4]
        color, fill = _border(box, self.folded), _fill(box, self.folded, self.scale)
        look = f"draw={_rgb(color)},fill={_rgb(fill)},rounded corners=2pt"
        size = f"minimum width={wide}in,minimum height={high}in,inner xsep=3pt,inner ysep=0pt,align=center"
        text = r" \\ ".join(self.texts[box.id])
        return rf"\node[{look},{size}] ({self.sheet.ids[box.id]}) at ({x},{y}) {{{text}}};"


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
    look = r"font=\fontsize{7}{8}\selectfont,inner sep=1pt,fill=white"
    label = rf"\node[{look}] at ({x},{y}) {{{tex_text(_flow(link))}}};"
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
    grad = box.summary.arrived.stats if box.summary.arrived.tensors else next(iter(node.grads), None)
    return step(scale.share(grad), FILL) if kind(grad) == "finite" else "#ffffff"


def _rgb(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"{{rgb,255:red,{red};green,{green};blue,{blue}}}"
