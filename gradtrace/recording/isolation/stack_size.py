"""Stack size for deep graphs.

Once Python has touched the nodes of a chain, torch destroys it recursively, with about 200 bytes of stack a node:
some 45,000 nodes fill the usual 8 MB, and the script would end in a segmentation fault that it does not have
without gradtrace.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from gradtrace.recording.isolation.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["raise_stack_limit", "stack_patches"]

_SAFE = 20_000


def raise_stack_limit(nodes: int) -> None:
    """Raise the main thread's stack limit as far as the system allows, if a graph of this many nodes needs it."""
    if nodes < _SAFE:
        return
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))


# Bytes of address space, enough for two million nodes; memory is only taken when used.
_STACK = 2**29


def stack_patches() -> list[Patch]:
    """Return the patches that give each new thread a stack large enough for deep graphs."""
    names = ("_start_joinable_thread", "_start_new_thread")
    return [Patch(threading, name, _roomy(getattr(threading, name))) for name in names if hasattr(threading, name)]


def _roomy(original: Callable[..., Any]) -> Callable[..., Any]:
    def start(*args: Any, **kwargs: Any) -> Any:
        if threading.stack_size():  # set by the script
            return original(*args, **kwargs)
        try:
            threading.stack_size(_STACK)
            return original(*args, **kwargs)
        except RuntimeError:  # not enough address space
            threading.stack_size(0)
            return original(*args, **kwargs)
        finally:
            threading.stack_size(0)

    return start
