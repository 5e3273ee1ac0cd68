"""Source text of the user's expressions, from Python frames.

While the script runs only a code object and an instruction's offset are stored; the text is read when the recording
is assembled.
"""

from __future__ import annotations

import ast
import linecache
import os
from functools import lru_cache
from pathlib import Path
from types import CodeType

from gradtrace.model import Source
from gradtrace.recording.user_code.frames import LIBRARY_PARTS, Place, cell_name

__all__ = ["Sources"]


_INDENT = 4  # marimo compiles the body of a cell's function without the indent that the lines in its file have


class Sources:
    """Sources by place, each read once; file names are relative to the first of the folders that contains them."""

    def __init__(self, *folders: str) -> None:
        self._folders = tuple(os.path.realpath(folder) for folder in folders)
        self._found: dict[tuple[int, int], tuple[CodeType, Source]] = {}
        self._positions: dict[int, list[tuple[int | None, ...]]] = {}

    def __call__(self, place: Place | None) -> Source | None:
        """Return the source text at ``place``, or None where there is no place."""
        if place is None:
            return None
        code, instruction = place
        key = (id(code), instruction)
        if key not in self._found:
            # A reference to the code object prevents reuse of its id.
            self._found[key] = (code, self._read(code, instruction))
        return self._found[key][1]

    def at_line(self, filename: str, line: int) -> Source:
        """Return the source of a complete line, for errors without a column."""
        text = linecache.getline(filename, line).strip()
        return Source(self.shown(filename), line, line, text=text)

    def shown(self, filename: str) -> str:
        """Return the file name as stored in the trace: the same on every machine, where possible."""
        cell = cell_name(filename)
        if cell or filename.startswith("<"):
            return cell or filename
        for part in LIBRARY_PARTS:
            if part in filename:
                return filename.rpartition(part)[2]
        real = os.path.realpath(filename)
        for folder in self._folders:
            if real.startswith(os.path.join(folder, "")):
                return Path(real).relative_to(folder).as_posix()
        return filename

    def _read(self, code: CodeType, instruction: int) -> Source:
        if id(code) not in self._positions:
            self._positions[id(code)] = list(code.co_positions())
        line, end_line, start, end = self._positions[id(code)][instruction // 2]
        filename = self.shown(code.co_filename)
        if line is None:
            return Source(filename, code.co_firstlineno, function=code.co_name)
        if end_line is None or start is None or end is None:  # python -X no_debug_ranges
            text = linecache.getline(code.co_filename, line).strip()
            return Source(filename, line, end_line or line, function=code.co_name, text=text)
        lines = [linecache.getline(code.co_filename, number) for number in range(line, end_line + 1)]
        if not _is_whole(lines, start, end) and _is_whole(lines, start + _INDENT, end + _INDENT):
            start, end = start + _INDENT, end + _INDENT
        text, column, end_column = _cut(lines, start, end)
        return Source(filename, line, end_line, column, end_column, code.co_qualname, text)


def _is_whole(lines: list[str], start: int, end: int) -> bool:
    """Tell whether the text between two UTF-8 byte offsets is an expression or ``y += 1``, and cuts no word."""
    text, column, end_column = _cut(lines, start, end)
    around = (lines[0][max(column - 1, 0) : column + 1] if column else "", lines[-1][end_column - 1 : end_column + 1])
    if any(len(pair) == 2 and all(c.isalnum() or c == "_" for c in pair) for pair in around):  # noqa: PLR2004
        return False
    return _parses(text if "=" in text and "\n" not in text else f"({text}\n)")


@lru_cache(4096)
def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _cut(lines: list[str], start: int, end: int) -> tuple[str, int, int]:
    """Return the text between two UTF-8 byte offsets, and the offsets in characters."""
    first, last = lines[0].encode(), lines[-1].encode()
    column, end_column = len(first[:start].decode(errors="replace")), len(last[:end].decode(errors="replace"))
    lines = [*lines[:-1], lines[-1][:end_column]]
    return "".join([lines[0][column:], *lines[1:]]), column, end_column
