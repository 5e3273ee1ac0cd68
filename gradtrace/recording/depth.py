"""Room on the stack for deep graphs.

Once Python has touched the nodes of a chain, torch destroys it recursively, about 200 bytes of stack a node:
some 45,000 nodes fill the usual 8 MB, and the script would end in a segmentation fault that it doesn't have
without us.
"""

from __future__ import annotations

__all__ = ["make_room"]

_SAFE = 20_000


def make_room(nodes: int) -> None:
    """Let the main thread's stack grow as far as the system allows, if a graph of this many nodes needs it."""
    if nodes < _SAFE:
        return
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
