"""Queries of recorded statistics: whether a gradient is broken or zero, its size, the inputs of an op."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Edge, Node, TensorStats, Values

__all__ = ["elements", "flat", "inputs", "is_broken", "is_zero", "size"]


def is_broken(stats: TensorStats | None) -> bool:
    """Tell whether a tensor holds NaN or infinity."""
    return stats is not None and bool(stats.nan or stats.inf)


def is_zero(stats: TensorStats | None) -> bool:
    """Tell whether a tensor was measured, and all its elements are exactly zero."""
    return stats is not None and stats.zeros == 1.0 and size(stats) > 0


def size(stats: TensorStats) -> int:
    """Return the number of elements.

    >>> from gradtrace.model import TensorStats
    >>> size(TensorStats((64, 3))), size(TensorStats(()))
    (192, 1)
    """
    count = 1
    for length in stats.shape:
        count *= length
    return count


def inputs(graph: BackwardPass, node: Node) -> Iterator[tuple[Edge, TensorStats | None]]:
    """Yield for each edge out of ``node`` what its target's forward output held: the node's own input.

    Inside a composite op the values are not recorded (the transposed weight of a linear layer): then the search goes
    on to the inputs of that.
    """
    waiting, seen = list(graph.edges_from[node.id]), {node.id}
    for edge in waiting:
        target = graph.by_id[edge.target]
        stats = target.values[edge.target_index] if edge.target_index < len(target.values) else None
        if stats is None and target.kind == "function" and target.id not in seen:
            seen.add(target.id)
            waiting += graph.edges_from[target.id]
        yield edge, stats


def flat(values: Values) -> list[float | None]:
    """Return nested values as one list, in order.

    >>> flat([[1, 2], [None, 4]]), flat(3.0)
    ([1.0, 2.0, None, 4.0], [3.0])
    """
    if not isinstance(values, list):
        return [None if values is None else float(values)]
    return [item for value in values for item in flat(value)]


def elements(stats: TensorStats) -> Iterator[tuple[str, float | None]]:
    """Yield the index of each element (``[0, 2]``) and its value, None for a non-finite one; small tensors only.

    >>> from gradtrace.model import TensorStats
    >>> list(elements(TensorStats((1, 2), values=[[5.0, None]])))
    [('[0, 0]', 5.0), ('[0, 1]', None)]
    """
    if stats.values is None and stats.shape:
        return
    yield from zip(_indices(stats.shape), flat(stats.values), strict=False)


def _indices(shape: tuple[int, ...]) -> list[str]:
    indices: list[tuple[int, ...]] = [()]
    for length in shape:
        indices = [(*index, i) for index in indices for i in range(length)]
    return [f"[{', '.join(map(str, index))}]" if index else "" for index in indices]
