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
from typing import TYPE_CHECKING, Any

from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from gradtrace.documents.blocks import fence_after
from gradtrace.documents.page import Frame, inline
from gradtrace.documents.script import TIMEOUT, Ran, Script, attribute_code, draw, read, run
from gradtrace.errors import DocumentError, GradtraceError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["GradtraceExtension", "fence", "makeExtension", "validate"]

logger = logging.getLogger("mkdocs.gradtrace")  # mkdocs build --strict counts what this warns of
OPTIONS = ("alt", "caption", "class", "height", "name", "pass", "raises", "show", "timeout", "width")
PARTS = ("source", "graph", "table")
OPENING = re.compile(r"(?P<indent> {0,3})(?P<mark>`{3,}|~{3,})\s*\{?\s*\.?gradtrace\b(?P<options>[^`]*?)\}?\s*")
FILE = re.compile(r"[^\n]+\.(py|pyw|json|json\.gz)")
ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
CACHE = ".cache/gradtrace"


def fence(source: str, _language: str, _class: str, options: dict[str, str], _md: Any, **_: Any) -> str:
    """Return the HTML of a fenced block; the formatter for pymdownx.superfences."""
    return _html(source, options, Path(), CACHE)


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
        root = Path(self.getConfig("root") or ".")
        md.preprocessors.register(_Fences(md, root, self.getConfig("cache")), "gradtrace", 27)


class _Fences(Preprocessor):
    def __init__(self, md: Any, root: Path, cache: str) -> None:
        super().__init__(md)
        self._root, self._cache = root, cache

    def run(self, lines: list[str]) -> list[str]:
        """Replace each of our blocks by a place for its HTML."""
        found, at, outer = [], 0, ""
        while at < len(lines):
            opening = OPENING.fullmatch(lines[at]) if not outer else None
            end = _end(lines, at, opening["mark"]) if opening else 0
            if opening and end:
                text = "\n".join(line.removeprefix(opening["indent"]) for line in lines[at + 1 : end])
                html = _html(text, _options(opening["options"]), self._root, self._cache)
                found += ["", self.md.htmlStash.store(html), ""]
                at = end + 1
                continue
            outer = fence_after(lines[at], outer)
            found.append(lines[at])
            at += 1
        return found


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


def _html(source: str, options: dict[str, str], root: Path, cache: str) -> str:
    try:
        _check(options)
        script = _script(source.strip("\n"), options, root.absolute())
        folder = root.absolute() / cache if cache else None
        ran = run(script, folder)
        if ran.trace is None or (ran.problem and options.get("raises") != ran.error):
            raise DocumentError(ran.problem + (f"\n{ran.details}" if ran.details else ""))
        return "\n".join(_parts(ran, script, options, folder))
    except GradtraceError as error:
        logger.warning("gradtrace: %s", error)
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


def _script(source: str, options: Mapping[str, str], root: Path) -> Script:
    """Return what a block holds: one line that names a script or an attribute, or code."""
    try:
        number, timeout = options.get("pass", "last"), float(options.get("timeout", TIMEOUT))
    except ValueError:
        raise DocumentError(f"timeout {options['timeout']!r} is no number of seconds") from None
    if not source.strip():
        raise DocumentError("an empty block", "name a script in it, or write code")
    if FILE.fullmatch(source.strip()):
        return read(root / source.strip(), number, timeout)
    code, name = source + "\n", "code.py"
    if ATTRIBUTE.fullmatch(source.strip()):
        code, name = attribute_code(source.strip()), f"{source.strip().rpartition(':')[2]}.py"
    return Script(name, code, str(root), number=number, timeout=timeout)


def _parts(ran: Ran, script: Script, options: Mapping[str, str], folder: Path | None) -> Iterator[str]:
    for part in _shown(options):
        if part == "source":
            yield f'<pre class="highlight"><code class="language-python">{escape(script.code)}</code></pre>'
        elif part == "table":
            table = escape(draw(ran, "text", script, folder).decode())
            yield f'<pre class="gradtrace-table"><code>{table}</code></pre>'
        else:
            yield _figure(ran, script, options, folder)


def _size(text: str) -> str:
    return f"{text}px" if text.isdecimal() else escape(text)


def _figure(ran: Ran, script: Script, options: Mapping[str, str], folder: Path | None) -> str:
    width, height = (_size(options.get(key, "")) for key in ("width", "height"))
    svg = inline(draw(ran, "svg", script, folder).decode(), Frame(options.get("alt", ""), width, height))
    # Markdown and minifiers leave one line as it is.
    picture = f'<div class="gradtrace-graph" style="overflow-x:auto">{svg}</div>'
    caption = f"<figcaption>{escape(options['caption'])}</figcaption>" if "caption" in options else ""
    name = f' id="{escape(options["name"])}"' if "name" in options else ""
    classes = escape(" ".join(["gradtrace", options.get("class", "")]).strip())
    return f'<figure class="{classes}"{name}>{picture}{caption}</figure>'
