"""From Python frames to the user's own source text.

While the script runs only a code object and an instruction's offset are kept; the text is looked up when
the recording is assembled.
"""

from __future__ import annotations

import ast
import linecache
import os
import re
import sys
import sysconfig
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import torch

from gradtrace.model import Source
from gradtrace.recording.runner import execute

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["OUTERMOST", "USER", "Place", "Sources", "call_place", "is_user_frame", "locate", "owners", "user_frames"]

USER, LIBRARY, INTERNAL = range(3)

_INTERNAL_FOLDERS = tuple(
    os.path.join(os.path.dirname(os.path.abspath(str(file))), "")
    for file in (torch.__file__, os.path.dirname(__file__))
)
_LIBRARY_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = tuple(os.path.join(os.path.realpath(sysconfig.get_paths()[name]), "") for name in ("stdlib", "platstdlib"))
_INDENT = 4  # marimo compiles the body of a cell's function without it, and names lines of the file that has it
_MAGIC = ("get_ipython().run_cell_magic(", "await get_ipython().magics_manager.")
owners: dict[str, int] = {}
# A script's frames end where it is run: beyond are ours and those of the command that started us.
OUTERMOST = execute.__code__


# Where a call was made: a code object, and the offset of an instruction in it.
Place = tuple[CodeType, int]


def _owner(filename: str) -> int:
    found = owners.get(filename)
    if found is None:
        found = owners[filename] = _classify(filename)
    return found


def _classify(filename: str) -> int:
    if filename.startswith(("<frozen", "<eval_with_key", "<torch")) or filename.startswith(_INTERNAL_FOLDERS):
        return INTERNAL
    if any(part in filename for part in _LIBRARY_PARTS):
        return LIBRARY
    if _cell(filename) and linecache.getline(filename, 1).startswith(_MAGIC):
        return INTERNAL  # a cell that only hands its text to a magic; the magic's code is the user's
    return INTERNAL if os.path.realpath(filename).startswith(_STANDARD) else USER


def is_user_frame(frame: FrameType) -> bool:
    """Tell whether the frame runs the user's own code."""
    return _owner(frame.f_code.co_filename) == USER


def user_frames(frame: FrameType | None) -> list[FrameType]:
    """Return the frames that run the user's own code, from the outermost inwards."""
    found = []
    while frame is not None and frame.f_code is not OUTERMOST:
        if is_user_frame(frame):
            found.append(frame)
        frame = frame.f_back
    return found[::-1]


def locate(frame: FrameType | None) -> tuple[Place | None, Place | None]:
    """Return the user's nearest place and, where it is nearer than that, a library's.

    Frames of torch, gradtrace and the standard library don't count. Where no frame is the user's, the
    library's own place stands for it.
    """
    library = None
    while frame is not None:
        code = frame.f_code
        if code is OUTERMOST:
            break
        owner = owners.get(code.co_filename)
        if owner is None:
            owner = _owner(code.co_filename)
        if owner == USER:
            return (code, frame.f_lasti), library
        if owner == LIBRARY and library is None:
            library = (code, frame.f_lasti)
        frame = frame.f_back
    return library, None


def call_place(frame: FrameType | None, *, only_user: bool = False) -> Place | None:
    """Return the user's place nearest to ``frame``; a library's, where there is none and it will do."""
    place = locate(frame)[0]
    return None if place and only_user and _owner(place[0].co_filename) != USER else place


class Sources:
    """Places turned into Sources, each once; file names relative to the folders given, the first that fits."""

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
            # The code object is kept beside its Source, so that its id is not given to another one.
            self._found[key] = (code, self._read(code, instruction))
        return self._found[key][1]

    def at_line(self, filename: str, line: int) -> Source:
        """Return the source of one whole line (for errors that know no column)."""
        text = linecache.getline(filename, line).strip()
        return Source(self.shown(filename), line, line, text=text)

    def shown(self, filename: str) -> str:
        """Return the file name as the trace tells it: the same on every machine, where that can be."""
        cell = _cell(filename)
        if cell or filename.startswith("<"):
            return cell or filename
        for part in _LIBRARY_PARTS:
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


def _cell(filename: str) -> str:
    """Return ``cell 3`` for the file name that IPython made up for the code of a notebook's third cell."""
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return ""
    try:
        known = interactive.InteractiveShell.instance().compile.format_code_name(filename)
    except Exception:  # noqa: BLE001 - a name that is less nice must not cost the recording
        return ""
    number = re.search(r"\d+", known[1]) if known else None
    return f"cell {number[0]}" if number else ""


def _is_whole(lines: list[str], start: int, end: int) -> bool:
    """Tell whether what stands between two UTF-8 byte offsets is an expression or ``y += 1``, and no part of a word."""
    text, column, end_column = _cut(lines, start, end)
    around = (lines[0][max(column - 1, 0) : column + 1] if column else "", lines[-1][end_column - 1 : end_column + 1])
    if any(len(pair) == 2 and all(c.isalnum() or c == "_" for c in pair) for pair in around):  # noqa: PLR2004
        return False
    try:
        ast.parse(text if "=" in text and "\n" not in text else f"({text}\n)")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _cut(lines: list[str], start: int, end: int) -> tuple[str, int, int]:
    """Return the text between two UTF-8 byte offsets, and the offsets in characters."""
    first, last = lines[0].encode(), lines[-1].encode()
    column, end_column = len(first[:start].decode(errors="replace")), len(last[:end].decode(errors="replace"))
    lines = [*lines[:-1], lines[-1][:end_column]]
    return "".join([lines[0][column:], *lines[1:]]), column, end_column
