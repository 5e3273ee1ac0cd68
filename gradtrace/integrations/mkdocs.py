"""MkDocs, Zensical and whatever else speaks Python-Markdown: graphs as fenced blocks.

Either as the Markdown extension ``gradtrace``, or as a custom fence of pymdownx.superfences::

    custom_fences:
      - {name: gradtrace, class: gradtrace, format: !!python/name:gradtrace.integrations.mkdocs.fence,
         validator: !!python/name:gradtrace.integrations.mkdocs.validate}
"""

from __future__ import annotations

import logging
import re
import shlex
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pygments
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from pygments.formatters.html import HtmlFormatter
from pygments.lexers.python import PythonLexer

from gradtrace.documents.blocks import fence_after
from gradtrace.documents.script import TIMEOUT, Ran, Script, attribute_code, draw, read, run, seconds
from gradtrace.drawing.embedded_page import EmbeddedPage
from gradtrace.drawing.page import Frame, inline
from gradtrace.errors import DocumentError, GradtraceError, ScriptError, UnknownNameError
from gradtrace.integrations.mkdocs_page import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["GradtraceExtension", "fence", "makeExtension", "validate"]

logger = logging.getLogger("mkdocs.gradtrace")  # mkdocs build --strict counts what this warns of
OPTIONS = ("alt", "caption", "class", "height", "interactive", "name", "pass", "raises", "show", "timeout", "width")
PARTS = ("source", "graph", "table")
OPENING = re.compile(r"(?P<indent> {0,3})(?P<mark>`{3,}|~{3,})\s*\{?\s*\.?gradtrace\b(?P<options>[^`]*?)\}?\s*")
FILE = re.compile(r"[^\n]+\.(py|pyw|json|json\.gz)")
ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
CACHE = ".cache/gradtrace"
HIGHLIGHTERS = ("HighlightExtension", "CodeHiliteExtension")  # whose sites have a style sheet for Pygments


class Place(NamedTuple):
    """Surroundings of a block: the folder of scripts, that of drawings, the page, and whether code has colours."""

    root: Path
    folder: Path | None
    page: Page
    colors: bool

    @classmethod
    def of(cls, md: Any, root: str = "", cache: str = CACHE) -> Place:
        """Return the place for the page that a Markdown instance converts."""
        absolute = Path(root or ".").absolute()
        colors = any(type(extension).__name__ in HIGHLIGHTERS for extension in md.registeredExtensions)
        return cls(absolute, absolute / cache if cache else None, Page.of(md), colors)


def fence(source: str, _language: str, _class: str, options: dict[str, str], md: Any, **_: Any) -> str:
    """Return the HTML of a fenced block; the formatter for pymdownx.superfences."""
    return _html(source, options, Place.of(md))


def validate(_language: str, inputs: dict[str, str], options: dict[str, str], attrs: dict[str, str], _md: Any) -> bool:
    """Take all options over, ours and others, which are warned of; the validator for pymdownx.superfences."""
    options.update(inputs)
    options.update(attrs)
    inputs.clear()
    return True


class GradtraceExtension(Extension):
    """The Markdown extension: fenced blocks of the language ``gradtrace`` become graphs."""

    def __init__(self, **settings: Any) -> None:
        self.config = {
            "root": ["", "the folder that scripts are found in and run from"],
            "cache": [CACHE, "where traces and pictures are kept, in the root; empty for nowhere"],
        }
        super().__init__(**settings)

    def extendMarkdown(self, md: Any) -> None:  # noqa: N802 - Python-Markdown's name
        """Register the blocks after the clean-up of white space (30), before all other code (25)."""
        self._md = md
        md.preprocessors.register(_Fences(md, self._draw), "gradtrace", 27)
        md.registerExtension(self)

    def reset(self) -> None:
        """Let superfences, where it is loaded, find the blocks inside of lists, tabs and admonitions."""
        for extension in self._md.registeredExtensions:
            fences = getattr(extension, "superfences", None)
            if fences and all(known["name"] != "gradtrace" for known in fences):
                # Its own method for this takes an argument more in some versions than in others.
                own = {"name": "gradtrace", "test": "gradtrace".__eq__, "formatter": self._nested}
                fences.append({**own, "validator": validate, "reset": None})

    def _draw(self, source: str, options: dict[str, str]) -> str:
        return _html(source, options, Place.of(self._md, self.getConfig("root"), self.getConfig("cache")))

    def _nested(self, src: str, options: dict[str, str], **_: Any) -> str:
        return self._draw(src, options)


class _Fences(Preprocessor):
    def __init__(self, md: Any, draw: Callable[[str, dict[str, str]], str]) -> None:
        super().__init__(md)
        self._draw = draw

    def run(self, lines: list[str]) -> list[str]:
        """Replace each of our blocks by a place for its HTML."""
        written, at, outer = [], 0, ""
        while at < len(lines):
            opening = OPENING.fullmatch(lines[at]) if not outer else None
            end = _end(lines, at, opening["mark"]) if opening else 0
            if opening and end:
                text = "\n".join(line.removeprefix(opening["indent"]) for line in lines[at + 1 : end])
                html = self._draw(text, _options(opening["options"]))
                written += ["", self.md.htmlStash.store(html), ""]
                at = end + 1
                continue
            outer = fence_after(lines[at], outer)
            written.append(lines[at])
            at += 1
        return written


def makeExtension(**settings: Any) -> GradtraceExtension:  # noqa: N802 - Python-Markdown's name
    """Return the extension."""
    return GradtraceExtension(**settings)


def _end(lines: list[str], start: int, mark: str) -> int:
    closing = re.compile(rf" {{0,3}}{mark[0]}{{{len(mark)},}}\s*")
    return next((i for i in range(start + 1, len(lines)) if closing.fullmatch(lines[i])), 0)


def _options(words: str) -> dict[str, str]:
    try:
        pairs = [word.partition("=") for word in shlex.split(words)]
    except ValueError:
        return {words: ""}
    return {key: value for key, _, value in pairs}


def _html(source: str, options: dict[str, str], place: Place) -> str:
    at = place.page.line(source)
    try:
        _check(options)
        script = _script(source.strip("\n"), options, place)
        ran = run(script, place.folder)
        if ran.trace is None or (ran.problem and options.get("raises") != ran.error):
            at += ran.line if at and not script.file else 0
            raise DocumentError(ran.problem + (f"\n{ran.details}" if ran.details else ""))
        return "\n".join(_parts(ran, script, options, place))
    except GradtraceError as error:
        logger.warning("gradtrace: %s%s", place.page.where(at), error)
        said = escape(str(error).splitlines()[0])
        return f'<p class="gradtrace-missing">This graph could not be drawn: {said}.</p>'


def _check(options: Mapping[str, str]) -> None:
    for name in options:
        if name not in OPTIONS:
            raise UnknownNameError.of("option", name, OPTIONS)
    for part in _shown(options):
        if part not in PARTS:
            raise UnknownNameError.of("part", part, PARTS)


def _shown(options: Mapping[str, str]) -> list[str]:
    return [part.strip() for part in options.get("show", "graph").split(",")]


def _script(source: str, options: Mapping[str, str], place: Place) -> Script:
    """Return what a block holds: one line that names a script or an attribute, or code."""
    number, timeout = options.get("pass", "last"), seconds(options.get("timeout", str(TIMEOUT)))
    if not source.strip():
        raise DocumentError("an empty block", "name a script in it, or write code")
    if FILE.fullmatch(source.strip()):
        return read(_found(source.strip(), place), number, timeout)
    code, name = source + "\n", "code.py"
    if ATTRIBUTE.fullmatch(source.strip()):
        code, name = attribute_code(source.strip()), f"{source.strip().rpartition(':')[2]}.py"
    return Script(name, code, str(place.root), number=number, timeout=timeout)


def _found(name: str, place: Place) -> Path:
    """Return the file beside the page or in the root; raises ScriptError where there is none."""
    folders = [folder for folder in (place.page.folder, place.root) if folder]
    file = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if file is None:
        raise ScriptError(f"no such file: {name!r}", "paths start at the page, or in the root: where the build runs")
    return file


def _parts(ran: Ran, script: Script, options: Mapping[str, str], place: Place) -> Iterator[str]:
    for part in _shown(options):
        if part == "source":
            yield _source(script.code, place)
        elif part == "table":
            table = escape(draw(ran, "text", script, place.folder).decode())
            yield f'<pre class="gradtrace-table"><code>{table}</code></pre>'
        else:
            yield _figure(ran, script, options, place.folder)


def _source(code: str, place: Place) -> str:
    """Return code as the site shows its own: coloured here, or left to a script in the page."""
    if place.colors:
        return str(pygments.highlight(code, PythonLexer(), HtmlFormatter(cssclass="highlight", wrapcode=True))).strip()
    return f'<pre class="highlight"><code class="language-python">{escape(code)}</code></pre>'


def _size(text: str) -> str:
    return f"{text}px" if text.isdecimal() else escape(text)


def _figure(ran: Ran, script: Script, options: Mapping[str, str], folder: Path | None) -> str:
    width, height = (_size(options.get(key, "")) for key in ("width", "height"))
    if options.get("interactive", "no").lower() in {"", "yes", "true", "1"}:
        page = draw(ran, "html", script, folder).decode()
        picture = EmbeddedPage.of_height(page, height, options.get("alt", "")).frame()
    else:
        svg = inline(draw(ran, "svg", script, folder).decode(), Frame(options.get("alt", ""), width, height))
        # Markdown and minifiers leave one line as it is.
        picture = f'<div class="gradtrace-graph" style="overflow-x:auto">{svg}</div>'
    caption = f"<figcaption>{escape(options['caption'])}</figcaption>" if "caption" in options else ""
    name = f' id="{escape(options["name"])}"' if "name" in options else ""
    classes = escape(" ".join(["gradtrace", options.get("class", "")]).strip())
    return f'<figure class="{classes}"{name}>{picture}{caption}</figure>'
