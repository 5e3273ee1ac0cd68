"""Recursion limit of the script, raised by the depth of gradtrace's own frames below it."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from gradtrace.recording.isolation.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["recursion_limit_of_script"]


@contextmanager
def recursion_limit_of_script() -> Iterator[None]:
    """Let the script recurse as deep as without gradtrace, and read and set the limit as usual."""
    get, put = sys.getrecursionlimit, sys.setrecursionlimit
    # Since 3.12, exec(), which runs the script, takes no level.
    depth = get() - _reach() - (sys.version_info >= (3, 12))
    with ExitStack() as undo:
        put(get() + depth)
        undo.callback(lambda: put(max(get() - depth, depth + 100)))
        for patch in (
            Patch(sys, "getrecursionlimit", lambda: get() - depth),
            Patch(sys, "setrecursionlimit", lambda limit, /: put(limit + depth if limit > 0 else limit)),
        ):
            patch.install()
            undo.callback(patch.uninstall)
        yield


def _reach() -> int:
    """Return how many more calls python allows; measured, because calls through C count without having a frame."""
    try:
        return 1 + _reach()
    except RecursionError:
        return 0
