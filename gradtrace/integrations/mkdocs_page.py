"""Page and line of a fenced block, looked up because hosts hand over neither."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from msgspec import Struct

__all__ = ["Page"]

QUOTED = r"[\s>]*"
OPENING = re.compile(rf"{QUOTED}(`{{3,}}|~{{3,}})\s*\{{?\s*\.?gradtrace\b.*")


class Page(Struct):
    """A page that is converted: its file, if the host tells, and how many of its blocks are done, by their code."""

    file: Path | None
    done: dict[str, int] = {}

    @classmethod
    def of(cls, md: Any) -> Page:
        """Return the page that a Markdown instance converts; the same one for all its blocks."""
        page: Page | None = getattr(md, "gradtrace_page", None)
        if page is None:
            page = md.gradtrace_page = cls(_file(md))
        return page

    @property
    def folder(self) -> Path | None:
        """The folder of the page."""
        return self.file.parent if self.file else None

    def where(self, line: int) -> str:
        """Return what stands before a warning: ``docs/index.md:12: ``."""
        if self.file is None:
            return ""
        here = Path.cwd()
        name = self.file.relative_to(here) if self.file.is_relative_to(here) else self.file
        return f"{name}:{line}: " if line else f"{name}: "

    def line(self, source: str) -> int:
        """Return the line of the next block with this code, from 1; 0 where it is not to be found in the file."""
        if self.file is None or not self.file.is_file():
            return 0
        lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = [line.strip() for line in source.strip("\n").splitlines()]
        opened = [(at, mark[1]) for at, line in enumerate(lines) if (mark := OPENING.fullmatch(line))]
        matching = [at + 1 for at, mark in opened if _holds(lines[at + 1 :], wanted, mark)]
        number = self.done[source] = self.done.get(source, 0) + 1
        return matching[min(number, len(matching)) - 1] if matching else 0


def _holds(lines: list[str], wanted: list[str], mark: str) -> bool:
    """Tell whether these lines are a block's code and the end of its fence; blank lines before it don't count."""
    bare = [re.sub(rf"^{QUOTED}", "", line).strip() for line in lines]
    first = next((at for at, line in enumerate(bare) if line), len(bare))
    last = next((at for at in range(first, len(bare)) if bare[at].startswith(mark)), len(bare))
    while last > first and not bare[last - 1]:
        last -= 1
    return bare[first:last] == wanted


def _file(md: Any) -> Path | None:
    """Return the source file: MkDocs keeps it with the processor of links, Zensical with that of its context."""
    for processor in (*md.treeprocessors, *md.preprocessors):
        path = getattr(getattr(processor, "file", None), "abs_src_path", None)
        page, config = getattr(processor, "page", None), getattr(processor, "config", None)
        if path is None and page is not None and isinstance(config, dict) and "docs_dir" in config:
            path = Path(config.get("root_dir") or "", config["docs_dir"], page.path)
        if path:
            return Path(path)
    return None
