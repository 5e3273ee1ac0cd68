"""Pictures inside a web page: their text can be found and selected, and they follow the page's theme."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from msgspec import Struct

from gradtrace.drawing.palette import DARK as PALETTE
from gradtrace.drawing.palette import PAGE

__all__ = ["Frame", "inline"]

# How pages say that they are dark or light, whatever the system prefers: furo and pydata, Material, Bootstrap,
# Jupyter, others; and that they are as the system is.
SAID = (
    '[data-theme="{0}"]',
    '[data-md-color-scheme="{1}"]',
    '[data-bs-theme="{0}"]',
    '[data-mode="{0}"]',
    '[data-jp-theme-light="{2}"]',
    ".{0}",
)
DARK = f":is({','.join(SAID).format('dark', 'slate', 'false')})"
LIGHT = f":is({','.join(SAID).format('light', 'default', 'true')})"
AUTO = '[data-theme="auto"]'
UNSAID = f"html:not({LIGHT},{DARK},{AUTO}) body:not({LIGHT},{DARK},{AUTO})"
ALONE = "svg:root"  # in a file of its own, or an image
SYSTEM_RULES = re.compile(r"@media \(prefers-color-scheme:dark\)\{\s*((?:[^{}]+\{[^{}]*\}\s*)*)\}\s*")
CHANGE = re.compile(r'\[([\w-]+)="([^"]+)"\]\{\1:([^}]+)\}')
# What pages call their own background: a picture stands on it without a box around.
GROUND = (
    "--color-background-primary",
    "--md-default-bg-color",
    "--pst-color-background",
    "--bs-body-bg",
    "--jp-layout-color0",
)
# A click opens a copy in its natural size, unless it follows a link or ends a selection. In an attribute, open and URL
# are the document's.
ENLARGE = (
    "if(!event.target.closest('a')&&!String(getSelection())){const s=this.cloneNode(true);"
    "s.removeAttribute('style');s.removeAttribute('onclick');"
    "window.open(window.URL.createObjectURL(new Blob([s.outerHTML],{type:'image/svg+xml'})))}"
)
LEGIBLE = 0.62  # of its own size: below, a picture is no longer read but scrolled


class Frame(Struct, frozen=True):
    """Options of a picture in a page.

    Args:
        alt: words for who can't see it.
        width: in CSS units; as wide as it is drawn where empty.
        height: in CSS units.
        dark: whether it may turn dark on a page that does not say that it is, after the system or the page's
            ``color-scheme``.
        links: where each node leads, by its id.
    """

    alt: str = ""
    width: str = ""
    height: str = ""
    dark: bool = True
    links: dict[str, str] = {}


PLAIN = Frame()


def inline(svg: str, frame: Frame = PLAIN) -> str:
    """Return an SVG to put into HTML as it is."""
    picture = ET.fromstring(svg)  # noqa: S314 - our own picture
    for element in picture.iter():
        element.tag = element.tag.rpartition("}")[2]
    style = picture.find("style")
    if style is not None:
        style.text = _themed(style.text or "", dark=frame.dark)
    if frame.alt:
        picture.set("aria-label", frame.alt)
        description = picture.find("desc")
        if description is not None:
            description.text = frame.alt
    for group in list(picture.iter("g")):
        target = frame.links.get(group.get("data-id", "").partition("_")[0])
        if target:
            _link(group, target)
    title = picture.find("title")
    if title is not None:
        picture.remove(title)  # on a page it would be a tooltip over everything
    picture.set("xmlns", "http://www.w3.org/2000/svg")
    picture.set("style", _size(picture.get("width", ""), frame))
    picture.set("onclick", ENLARGE)
    return ET.tostring(picture, encoding="unicode")


def _link(group: ET.Element, target: str) -> None:
    """Make a link of all that a group shows; its tooltip stays its own."""
    link = ET.Element("a", {"href": target})
    for child in [child for child in group if child.tag != "title"]:
        group.remove(child)
        link.append(child)
    group.append(link)


def _size(own: str, frame: Frame) -> str:
    number, unit = re.sub(r"[^\d.]", "", own), re.sub(r"[\d.]", "", own) or "px"
    least = f"min-width:min({float(number) * LEGIBLE:.0f}{unit},{frame.width or '100em'});" if number else ""
    width = f"width:{frame.width};" if frame.width else ""
    return f"cursor:zoom-in;{least}max-width:100%;{width}height:{frame.height or 'auto'}"


def _themed(css: str, *, dark: bool) -> str:
    """Return the style sheet with its rules for a dark system bound to what the page says of itself.

    A page that says nothing is light, as browsers take it, unless its ``color-scheme`` lets it follow the system;
    ``light-dark()`` knows. Its background is not asked for: it may be dark without a word.
    """
    match = SYSTEM_RULES.search(css)
    if not match:
        return css
    rules = match[1].strip()
    light = _grounded(f'.gradtrace [fill="{PAGE}"]{{fill:{PAGE}}}')
    sheet = [_within(f":is({LIGHT},{AUTO})", light), _within(DARK, _grounded(rules))]
    if dark:
        by_system = _within(AUTO, _grounded(rules)) + rules.replace(".gradtrace", f"{ALONE}.gradtrace")
        sheet.append(f"@media (prefers-color-scheme:dark){{\n{by_system}}}\n")
        sheet.append(_within(UNSAID, CHANGE.sub(r'[\1="\2"]{\1:light-dark(\2,\3)}', rules)))
    return "".join([css[: match.start()], *sheet, css[match.end() :]])


def _grounded(css: str) -> str:
    """Return the rules with the page's own background wherever they name ours."""
    for color in (PAGE, PALETTE[PAGE]):
        known = "".join(f"var({name}," for name in GROUND)
        css = css.replace(f":{color}", f":{known}{color}{')' * len(GROUND)}")
    return css


def _within(scope: str, rules: str) -> str:
    """Return the rules for what is inside ``scope`` only."""
    parts = re.findall(r"([^{}]+)(\{[^{}]*\})", rules)
    return "".join(f"{','.join(f'{scope} {one.strip()}' for one in names.split(','))}{body}\n" for names, body in parts)
