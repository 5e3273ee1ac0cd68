"""Frames of the user, of libraries, of torch and gradtrace: which is which, and the user's place nearest to a call."""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
from types import CodeType
from typing import TYPE_CHECKING

import torch

from gradtrace.files import PACKAGE_FOLDER
from gradtrace.recording.user_code.entry import OUTERMOST

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "INTERNAL",
    "LIBRARY",
    "LIBRARY_PARTS",
    "USER",
    "Place",
    "call_place",
    "cell_name",
    "find_user_place",
    "is_user_frame",
    "owners",
    "user_frames",
]

USER, LIBRARY, INTERNAL = range(3)


_TORCH = os.path.join(os.path.dirname(os.path.abspath(torch.__file__)), "")
_INTERNAL_FOLDERS = (_TORCH, PACKAGE_FOLDER)
# Parts of torch treated as libraries: they run many ops below a single line of the user.
_TORCH_LIBRARIES = (
    os.path.join(_TORCH, "nn", "modules", "transformer.py"),
    os.path.join(_TORCH, "distributions", ""),
)
LIBRARY_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = tuple(os.path.join(os.path.realpath(sysconfig.get_paths()[name]), "") for name in ("stdlib", "platstdlib"))
_MAGIC = ("get_ipython().run_cell_magic(", "await get_ipython().magics_manager.")
owners: dict[str, int] = {}
# Where a call was made: a code object, and the offset of an instruction in it.
Place = tuple[CodeType, int]


def _owner(filename: str) -> int:
    found = owners.get(filename)
    if found is None:
        found = owners[filename] = _classify(filename)
    return found


def _classify(filename: str) -> int:
    if filename.startswith(_TORCH_LIBRARIES):
        return LIBRARY
    if filename.startswith(("<frozen", "<eval_with_key", "<torch")) or filename.startswith(_INTERNAL_FOLDERS):
        return INTERNAL
    if any(part in filename for part in LIBRARY_PARTS):
        return LIBRARY
    if cell_name(filename) and linecache.getline(filename, 1).startswith(_MAGIC):
        return INTERNAL  # the cell only passes its text to a magic; the magic runs the user's code
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


def find_user_place(frame: FrameType | None) -> tuple[Place | None, Place | None]:
    """Return the user's nearest place and, where it is nearer than that, a library's.

    Frames of torch, gradtrace and the standard library are skipped. Torch's transformer layers and distributions count
    as a library, as all their ops would share one user line. If no frame is the user's, the library's place replaces
    it.
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
    """Return the user's place nearest to ``frame``, or that of a library if there is none."""
    place = find_user_place(frame)[0]
    return None if place and only_user and _owner(place[0].co_filename) != USER else place


def cell_name(filename: str) -> str:
    """Return ``cell 3`` for the file name that IPython generates for the third cell of a notebook."""
    interactive = sys.modules.get("IPython.core.interactiveshell")
    if interactive is None or not interactive.InteractiveShell.initialized():
        return ""
    try:
        known = interactive.InteractiveShell.instance().compile.format_code_name(filename)
    except Exception:  # noqa: BLE001 - a name that is less nice must not cost the recording
        return ""
    number = re.search(r"\d+", known[1]) if known else None
    return f"cell {number[0]}" if number else ""
