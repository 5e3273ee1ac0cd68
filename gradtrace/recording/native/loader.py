"""The compiled part, from native.c and reduce.c; None where the installation could not compile it.

``GRADTRACE_NATIVE=0`` in the environment does without it, too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["NATIVE"]

INTERFACE = 2
NATIVE: ModuleType | None = None
if os.environ.get("GRADTRACE_NATIVE") != "0":
    with suppress(ImportError):  # not compiled, or for another platform
        found = import_module("gradtrace.recording.native._native")
        # One that was compiled from older sources, in a checkout that was updated and not installed again.
        NATIVE = found if getattr(found, "INTERFACE", 0) == INTERFACE else None
