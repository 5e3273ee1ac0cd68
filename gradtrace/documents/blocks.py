"""The graphs inside a Markdown file: between ``<!-- gradtrace: SCRIPT -->`` and ``<!-- /gradtrace -->``."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from gradtrace.documents.script import TIMEOUT, Script, draw, read, run, seconds
from gradtrace.errors import DocumentError, GradtraceError, UnknownNameError
from gradtrace.files import check_writable
from gradtrace.formats.base import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Block", "blocks", "fence_after", "refreshed"]

OPEN = re.compile(r"[ \t]*<!--\s*gradtrace:\s*(?P<words>.*?)\s*-->\s*")
CLOSE = re.compile(r"[ \t]*<!--\s*/gradtrace\s*-->\s*")
FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<rest>.*)")
HOW = "write <!-- gradtrace: SCRIPT format=text --> and <!-- /gradtrace --> on lines of their own"
OPTIONS = ("format", "pass", "timeout", "alt", "file")
FENCED = {"text": "text", "mermaid": "mermaid", "dot": "dot", "json": "json", "tikz": "latex"}
PICTURES = ("svg", "png", "pdf")

Asked = tuple[Script, Path | None]


class Block(Struct, frozen=True):
    """A block of a document: its lines (from 0: the opening and the closing comment), its script and options."""

    first: int
    last: int
    script: str
    options: dict[str, str]


class Refreshed(NamedTuple):
    """A document as it should be: its text, and the pictures beside it, by path."""

    text: str
    pictures: dict[Path, bytes]


def refreshed(path: Path, text: str) -> Refreshed:
    """Return the document with its blocks drawn again, the pictures beside it included.

    Raises DocumentError at the document's line where a block is wrong or its script fails.
    """
    ending = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    lines, pictures = text.split("\n"), dict[Path, bytes]()
    for block in reversed(list(blocks(path, text))):
        where = f"{path}, line {block.first + 1}"
        indent = re.match(r"[ \t]*", lines[block.first])
        drawn = _drawn(path, block, where, pictures)
        lines[block.first + 1 : block.last] = [f"{indent[0] if indent else ''}{line}".rstrip() for line in drawn]
    return Refreshed(ending.join(lines), pictures)


def blocks(path: Path, text: str) -> Iterator[Block]:
    """Yield the blocks of a document; those in its code are examples, and left alone."""
    opened: tuple[int, str] | None = None
    fence = ""
    for i, line in enumerate(text.split("\n")):
        where = f"{path}, line {i + 1}"
        start, end = OPEN.fullmatch(line), CLOSE.fullmatch(line)
        fence = "" if opened else fence_after(line, fence)
        if fence or line.startswith(("    ", "\t")):
            continue
        if start and opened:
            raise DocumentError(f"{where}: a block begins inside that of line {opened[0] + 1}", HOW)
        if end and not opened:
            raise DocumentError(f"{where}: a block ends that never began", HOW)
        if start:
            opened = i, start["words"]
        elif end and opened:
            yield Block(opened[0], i, *_read(opened[1], f"{path}, line {opened[0] + 1}"))
            opened = None
    if opened:
        raise DocumentError(f"{path}, line {opened[0] + 1}: a block never ends", HOW)


def fence_after(line: str, fence: str) -> str:
    """Return the fence that code stands in after this line, or nothing."""
    match = FENCE.fullmatch(line)
    if not match:
        return fence
    if not fence:
        return match["mark"]
    return "" if match["mark"].startswith(fence) and not match["rest"].strip() else fence


def _read(words: str, where: str) -> tuple[str, dict[str, str]]:
    """Return the script and the options that an opening comment names."""
    try:
        script, *rest = shlex.split(words) or [""]
    except ValueError as error:
        raise DocumentError(f"{where}: {str(error).lower()}", HOW) from None
    options = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or key not in OPTIONS:
            raise DocumentError(f"{where}: {UnknownNameError.of('option', word, [f'{name}=…' for name in OPTIONS])}")
        options[key] = value
    if not script or "=" in script:
        raise DocumentError(f"{where}: no script is named", HOW)
    return script, options


def _drawn(path: Path, block: Block, where: str, pictures: dict[Path, bytes]) -> list[str]:
    name = block.options.get("format", "text")
    if name not in FORMATS:
        raise DocumentError(f"{where}: {UnknownNameError.of('format', name, FORMATS)}")
    script, file = _at(where, lambda: _asked(path, block, name))
    ran = run(script)
    if ran.problem or ran.trace is None:
        details = f"\n{ran.details}" if ran.details else ""
        raise DocumentError(f"{where}: {ran.problem}{details}")
    data = draw(ran, name, script)
    if file:
        pictures[file] = data
        alt = block.options.get("alt") or f"gradient graph of {script.name}"
        return ["", f"![{alt}]({block.options.get('file', file.name)})", ""]
    return _text(data.decode(), name)


def _asked(path: Path, block: Block, name: str) -> Asked:
    """Return the script of a block and, where its format is a picture, the file to write; before anything runs."""
    file = path.parent / block.options.get("file", f"{Path(block.script).stem}.{name}") if name in PICTURES else None
    if file:
        check_writable(file)
    return read(path.parent / block.script, block.options.get("pass", "last"), _seconds(block)), file


def _text(drawn: str, name: str) -> list[str]:
    """Return a text to stand in Markdown: as code in a fence longer than any in it, or as it is."""
    lines = drawn.rstrip("\n").split("\n")
    if name not in FENCED:
        return ["", *lines, ""]
    longest = max((len(run) for run in re.findall(r"`+", drawn)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["", f"{fence}{FENCED[name]}", *lines, fence, ""]


def _seconds(block: Block) -> float:
    return seconds(block.options.get("timeout", str(TIMEOUT)))


def _at(where: str, make: Callable[[], Asked]) -> Asked:
    """Return what ``make`` does, or tell where it went wrong."""
    try:
        return make()
    except GradtraceError as error:
        raise DocumentError(f"{where}: {error}") from None
