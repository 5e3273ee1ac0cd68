"""Loader of the C part, ``_native``; ``NATIVE`` is None where it is off or was not compiled.

``GRADTRACE_NATIVE`` in the environment: ``0`` turns it off, so that the Python twins run; ``require``, as in tests
and CI, makes a missing one an error.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["NATIVE"]

INTERFACE = 3  # as in native.h: version of the interface between C and Python


def _load(wanted: str) -> ModuleType | None:
    if wanted == "0":
        return None
    try:
        module, why = import_module("gradtrace.recording.native._native"), ""
    except ImportError as error:  # not compiled, or for another platform
        module, why = None, str(error)
    if module is not None and getattr(module, "INTERFACE", 0) != INTERFACE:
        module, why = None, "it was compiled from other sources than these: install gradtrace again"
    if module is None and wanted == "require":
        raise ImportError(f"GRADTRACE_NATIVE=require, but the C part can't be loaded: {why}")
    return module


NATIVE = _load(os.environ.get("GRADTRACE_NATIVE", ""))
