"""Summary of the gradients in a fold: in, out, smallest, largest, and along a run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradtrace.fold.boxes import Flow, GradientSummary
from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradtrace.fold.groups import Part
    from gradtrace.fold.line import Line

__all__ = ["joined", "summary_of"]

# Relative rounding of a norm, as the order of summing makes it: of norms that differ by less, the first counts.
_ALIKE = 1e-6


def summary_of(line: Line, part: Part) -> GradientSummary:
    """Return what is true of the nodes in a part."""
    inside = set(part.places)
    low, high = None, None
    zero = none = broken = 0
    for s, node_id in _gradients(line, part.places):
        if s is None:
            none += 1
        elif s.nan or s.inf:
            broken += 1
        elif s.norm:
            low = (s.norm, node_id) if low is None or s.norm < low[0] * (1 - _ALIKE) else low
            high = (s.norm, node_id) if high is None or s.norm > high[0] * (1 + _ALIKE) else high
        elif s.norm is not None:
            zero += 1
    curve = _curve(line, part) if part.kind == "run" else ()
    return GradientSummary(
        _arrived(line, part.places, inside), _left(line, part.places, inside), low, high, zero, none, broken, curve
    )


def joined(tensors: Sequence[TensorStats | None]) -> Flow:
    """Return tensors taken together: the norm is that of all their elements in one vector."""
    known = [s for s in tensors if s is not None]
    if len(tensors) <= 1 or not known:
        return Flow(len(tensors), known[0] if known else None)
    sizes = [math.prod(s.shape) for s in known]
    zeros = [s.zeros for s in known]
    return Flow(
        len(tensors),
        TensorStats(
            (sum(sizes),),
            norm=math.hypot(*(s.norm or 0.0 for s in known)) if any(s.norm is not None for s in known) else None,
            zeros=1.0 if all(z == 1 for z in zeros) else 0.0,
            nan=sum(s.nan for s in known),
            inf=sum(s.inf for s in known),
        ),
    )


def _gradients(line: Line, places: Iterable[int]) -> Iterable[tuple[TensorStats | None, str]]:
    for at in places:
        node = line.nodes[at]
        for s in node.grads:
            yield s, node.id
        for edge in line.to_leaves[at]:
            yield edge.grad, node.id


def _entries(line: Line, places: Iterable[int], inside: set[int]) -> list[tuple[int, int]]:
    """Return the places and outputs at which gradients come in from elsewhere."""
    entries = {(at, edge.target_index): None for at in places for s, edge in line.inward[at] if s not in inside}
    outputs = {(at, 0): None for at in places if line.nodes[at].kind == "output"}
    return [*outputs, *entries]


def _at(line: Line, place: int, output: int) -> TensorStats | None:
    grads = line.nodes[place].grads
    return grads[output] if output < len(grads) else None


def _arrived(line: Line, places: Iterable[int], inside: set[int]) -> Flow:
    return joined([_at(line, at, output) for at, output in _entries(line, places, inside)])


def _left(line: Line, places: Iterable[int], inside: set[int]) -> Flow:
    return joined([edge.grad for at in places for target, edge in line.onward[at] if target not in inside])


def _curve(line: Line, part: Part) -> tuple[float | None, ...]:
    """Return the norm that arrived at each segment, at the places where the second is entered."""
    width = len(part.places) // part.count
    second = part.places[width : 2 * width]
    entries = _entries(line, second, set(second))
    offsets = [(at - second[0], output) for at, output in entries]
    return tuple([_norm([_at(line, start + at, output) for at, output in offsets]) for start in part.places[::width]])


def _norm(tensors: list[TensorStats | None]) -> float | None:
    s = tensors[0] if len(tensors) == 1 else joined(tensors).stats
    if s is None:
        return None
    return math.nan if s.nan or s.inf else s.norm
