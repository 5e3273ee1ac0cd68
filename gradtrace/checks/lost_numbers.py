"""Numbers that are missing from a trace because the device that had them told nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.model import LOST, NOT_MEASURED, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, TensorStats

__all__ = ["lost_numbers"]

_HINTS = {
    LOST: (
        "a device fails later than the operation that is wrong: set CUDA_LAUNCH_BLOCKING=1 in the environment and run "
        "the script again; then the error comes from the line that caused it, with all numbers before it"
    ),
    NOT_MEASURED: (
        "record less, as gradtrace.record(forward=False) or --pass N do, or try a smaller batch; a graph that is "
        "captured is recorded by running the script without the capture"
    ),
}


@check("lost-numbers")
def lost_numbers(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """A device failed, hung or had no memory left: of how many tensors there are no numbers, and why."""
    reasons: dict[str, int] = {}
    for stats in _all_stats(graph):
        if stats is not None and stats.note.startswith((LOST, NOT_MEASURED)):
            reasons[stats.note] = reasons.get(stats.note, 0) + 1
    for note, count in reasons.items():
        kind = next(kind for kind in _HINTS if note.startswith(kind))
        told = "were lost" if kind == LOST else "were not measured"
        message = f"the numbers of {count:,} tensors {told}: {note.removeprefix(kind)}"
        yield Finding("lost-numbers", "warning", message, _HINTS[kind])


def _all_stats(graph: BackwardPass) -> Iterator[TensorStats | None]:
    for node in graph.nodes:
        yield from node.values
        yield from node.grads
    for edge in graph.edges:
        yield edge.grad
