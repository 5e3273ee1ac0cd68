"""Gradient norms of a trace's leaves as plain numbers, for loggers: NaN and infinity are kept as such."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradtrace.history import pass_rows

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Node, TensorStats, Trace

__all__ = ["as_number", "final_norms", "held", "leaf_tags"]


def as_number(stats: TensorStats) -> float | None:
    """Return the norm of a tensor: NaN if it has one, infinity if it has one of these, None where it is not known.

    >>> from gradtrace.model import TensorStats
    >>> as_number(TensorStats((2,), norm=1.0)), as_number(TensorStats((2,), norm=1.0, inf=1))
    (1.0, inf)
    """
    if stats.nan:
        return math.nan
    return math.inf if stats.inf else stats.norm


def held(leaf: Node) -> TensorStats | None:
    """Return the statistics of what a leaf's ``.grad`` held when the pass had ended, None if nothing arrived."""
    return leaf.reduced or leaf.accumulated or next(iter(leaf.grads), None)


def leaf_tags(graph: BackwardPass) -> dict[str, str]:
    """Return a tag for each leaf by its node's id: its name, made unique within the pass."""
    tags: dict[str, str] = {}
    for node in graph.nodes:
        if node.kind == "leaf":
            name = node.name or "unnamed"
            tags[node.id] = f"{name} ({node.id})" if name in tags.values() else name
    return tags


def final_norms(trace: Trace) -> dict[str, float]:
    """Return the norm of each leaf's ``.grad`` after the passes of a step, without the factor of a GradScaler.

    A leaf that no gradient reached, or whose norm is not known, has none.
    """
    found: dict[str, float] = {}
    for graph in trace.passes:
        row = pass_rows(trace, graph.rank).get(graph.index)
        scale = row.scale if row is not None and row.scale else 1.0
        for key, tag in leaf_tags(graph).items():
            stats = held(graph.by_id[key])
            norm = None if stats is None else as_number(stats)
            if norm is not None:
                found[tag] = norm / scale
    return found
