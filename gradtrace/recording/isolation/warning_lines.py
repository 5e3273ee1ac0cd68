"""Lines of warnings: each warning names the line that it would name without gradtrace."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from gradtrace.files import PACKAGE_FOLDER
from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.isolation.tracebacks import Entry, entries_of, plain_entries

__all__ = ["warning_patches"]


def warning_patches() -> list[Patch]:
    """Return the patches by which each warning names the line that it would name without gradtrace."""
    warn, show = warnings.warn, warnings._showwarnmsg  # type: ignore[attr-defined]

    def warn_in_place(message: Any, category: Any = None, stacklevel: int = 1, source: Any = None, **more: Any) -> None:
        entries = [entry for entry in entries_of(sys._getframe(1)) if not _is_import(entry)]
        plain = plain_entries(entries)
        if 1 <= stacklevel <= len(plain):
            depth = next(at for at, entry in enumerate(entries) if entry.frame is plain[stacklevel - 1].frame)
        else:
            # As in Python, a level that is too high names no file.
            depth = max(stacklevel - 1, 0 if stacklevel < 1 else len(entries))
        warn(message, category, stacklevel=depth + 2, source=source, **more)

    def show_in_place(message: warnings.WarningMessage) -> None:
        if not message.filename.startswith(PACKAGE_FOLDER):
            show(message)
            return
        # A warning from C++, in a call made by our mode: filtered again, now with the user's line.
        entries = entries_of(sys._getframe(1))
        place = _place_beyond(entries, message.filename)
        if place is None:
            show(message)
            return
        _forget_shown(entries)
        known = place.frame.f_globals
        registry, module = known.setdefault("__warningregistry__", {}), known.get("__name__", "<unknown>")
        filename = place.frame.f_code.co_filename
        warnings.warn_explicit(message.message, message.category, filename, place.line, module, registry)

    return [Patch(warnings, "warn", warn_in_place), Patch(warnings, "_showwarnmsg", show_in_place)]


def _is_import(entry: Entry) -> bool:
    """Tell whether this frame belongs to the machinery of ``import``, which warnings skip."""
    filename = entry.frame.f_code.co_filename
    return "importlib" in filename and "_bootstrap" in filename


def _place_beyond(entries: list[Entry], filename: str) -> Entry | None:
    """Return the first entry that would exist without gradtrace."""
    own = next((at for at, entry in enumerate(entries) if entry.frame.f_code.co_filename == filename), len(entries))
    return next(iter(plain_entries(entries[own:])), None)


def _forget_shown(entries: list[Entry]) -> None:
    """Clear the record of this warning at our own line, which would suppress it at other lines of the script."""
    for entry in entries:
        if entry.frame.f_code.co_filename.startswith(PACKAGE_FOLDER):
            entry.frame.f_globals.pop("__warningregistry__", None)
