"""The picture as SVG: one file that carries everything, legible on a light page and on a dark one."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from msgspec.structs import replace

from gradtrace.drawing.digraph import source
from gradtrace.drawing.theme import Theme
from gradtrace.engine import draw
from gradtrace.engine.widths import width
from gradtrace.formats.base import Style, register
from gradtrace.model import Report
from gradtrace.wording.phrases import alt_text, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["render"]

NAMESPACE = "http://www.w3.org/2000/svg"
TOOLTIP = "{http://www.w3.org/1999/xlink}title"
OURS = Theme.of({})
INSIDE = 2.0  # points from the border of a card


@register("svg", ".svg")
def render(report: Report, style: Style) -> str:
    """Picture for web pages and documents, light and dark."""
    drawn = draw(source(report, replace(style, theme=None)), "svg", style.engine, style.timeout)
    picture = ET.fromstring(drawn)  # noqa: S314 - Graphviz wrote it
    _simplify(picture)
    if style.dot is None:
        _fit(picture)
        _dress(picture, style.theme or OURS)
    words = alt_text(report)
    picture.insert(0, _element("desc", words))
    picture.insert(0, _element("title", title(report)))
    picture.attrib.update({"xmlns": NAMESPACE, "class": "gradtrace", "role": "img", "aria-label": words})
    return ET.tostring(picture, encoding="unicode") + "\n"


def _element(tag: str, text: str) -> ET.Element:
    element = ET.Element(tag)
    element.text = text
    element.tail = "\n"
    return element


def _simplify(picture: ET.Element) -> None:
    """Name elements without their namespace, drop ids (two pictures on a page would clash), make tooltips."""
    for element in picture.iter():
        element.tag = element.tag.removeprefix(f"{{{NAMESPACE}}}")
        element.attrib.pop("id", None)
    for element in picture.iter():
        element[:] = [child for child in element if child.tag != "text" or (child.text or "").strip()]
    for group in list(picture.iter("g")):
        name = group.find("title")
        if name is not None:
            _name(group, name)


def _name(group: ET.Element, name: ET.Element) -> None:
    """Turn the links that Graphviz makes of tooltips into the group's title, and its title into ``data-id``."""
    link = group.find("g/a")
    words = link.get(TOOLTIP) if link is not None else None
    if group.get("class") != "graph":
        group.set("data-id", name.text or "")
    name.text = words
    parts = list(group)
    group[:] = [name] if words else []
    for part in parts[1:]:
        inside = part.find("a")
        group.extend([part] if inside is None or part.get("class") else inside)


def _fit(picture: ET.Element) -> None:
    """Hold each text to its width in the engine's fonts: a page with other fonts would overrun the cards."""
    cards = {text: right for group in picture.iter("g") for text, right in _rights(group)}
    for text in picture.iter("text"):
        bold = text.get("font-weight") == "bold"
        length = width(text.text or "", text.get("font-family", ""), float(text.get("font-size", "0")), bold=bold)
        if length:
            middle = text.get("text-anchor") == "middle"
            room = (cards.get(text, math.inf) - float(text.get("x", "0"))) * (2 if middle else 1)
            # The engine's letters stand closer where they are kerned.
            fitting = {"textLength": f"{min(length, room):.1f}", "lengthAdjust": "spacingAndGlyphs"}
            text.attrib.update(fitting)


def _rights(group: ET.Element) -> Iterator[tuple[ET.Element, float]]:
    """Yield each text of a card with the right end of what it may take."""
    if "node" in group.get("class", "").split():
        outlines = " ".join(shape.get("points", "") or shape.get("d", "") for shape in group.iter())
        rights = [float(x) for x in re.findall(r"(-?[\d.]+),", outlines)]
        yield from ((text, max(rights) - INSIDE) for text in group.iter("text") if rights)


def _dress(picture: ET.Element, theme: Theme) -> None:
    """Put the theme's fonts and colours in the place of the palette's, and the colours of a dark page beside."""
    used: set[tuple[str, str]] = set()
    for element in picture.iter():
        for key in {"fill", "stroke", "font-family"} & element.attrib.keys():
            plain = element.attrib[key]
            element.set(key, (theme.fonts if key == "font-family" else theme.light).get(plain, plain))
            used.add((key, plain))
    picture.insert(0, _element("style", "".join(_rules(theme, used))))


def _rules(theme: Theme, used: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the style sheet: the colours that change on a dark page."""
    yield "@media (prefers-color-scheme:dark){\n"
    for key, plain in sorted(used):
        light, dark = theme.light.get(plain, plain), theme.dark.get(plain)
        if dark and dark != light:
            yield f'.gradtrace [{key}="{light}"]{{{key}:{dark}}}\n'
    yield "}\n"
