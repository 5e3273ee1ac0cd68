"""Two recordings side by side: which node is which, and where their gradients first part."""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.checks.stats_queries import flat
from gradtrace.difference import Change, Difference
from gradtrace.model import TensorStats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.model import BackwardPass, Node, Trace

__all__ = ["Tolerance", "compare", "distance", "match"]

MOST_TO_ALIGN = 5_000  # nodes; beyond, the k-th of a kind is taken for the k-th of the same kind


class Tolerance(Struct, frozen=True):
    """Limit on the difference of two gradients: ``atol + rtol · scale``, where the scale is the larger gradient."""

    rtol: float = 1e-4
    atol: float = 1e-8


def compare(before: Trace, after: Trace, tolerance: Tolerance) -> Difference:
    """Return what differs between two traces, pass by pass."""
    changes: list[Change] = []
    gone: list[str] = []
    come: list[str] = []
    come_ids: list[tuple[int, str]] = []
    for a, b in zip(before.passes, after.passes, strict=False):
        pairs = match(a, b)
        changes += _changes(a, pairs, tolerance)
        gone += _unmatched(a, {first.id for first, _ in pairs})
        come += _unmatched(b, known := {second.id for _, second in pairs})
        come_ids += [(b.index, node.id) for node in b.nodes if node.id not in known]
    counts = len(before.passes), len(after.passes)
    return Difference(tuple(changes), tuple(gone), tuple(come), tuple(come_ids), counts, tuple(_reasons(before, after)))


def match(a: BackwardPass, b: BackwardPass) -> list[tuple[Node, Node]]:
    """Return which node is which, in backward order: tensors by name, functions by op, module, line and place."""
    pairs = _by_key(a.nodes, b.nodes, _tensor_key)
    pairs += _aligned(_functions(a), _functions(b))
    left = [[n for n in g.nodes if n.id not in {p[i].id for p in pairs}] for i, g in enumerate((a, b))]
    pairs += _by_key(left[0], left[1], _loose_key)
    order = {node.id: position for position, node in enumerate(a.nodes)}
    return sorted(pairs, key=lambda pair: order[pair[0].id])


def _functions(graph: BackwardPass) -> list[Node]:
    return [node for node in graph.nodes if node.kind == "function"]


def _key(node: Node) -> tuple[str, ...]:
    source = node.source or node.library
    return node.op, node.module, " ".join(source.text.split()) if source else ""


def _tensor_key(node: Node) -> tuple[str, ...] | None:
    return (node.kind, node.name) if node.kind != "function" else None


def _loose_key(node: Node) -> tuple[str, ...] | None:
    return (node.kind, node.op, node.module) if node.kind == "function" else (node.kind,)


def _by_key(a: Sequence[Node], b: Sequence[Node], key: object) -> list[tuple[Node, Node]]:
    """Pair the k-th of each key in one with the k-th of the same key in the other."""
    assert callable(key)  # noqa: S101 - for mypy
    waiting: dict[object, list[Node]] = {}
    for node in reversed(b):
        waiting.setdefault(key(node), []).append(node)
    waiting.pop(None, None)
    return [(node, waiting[key(node)].pop()) for node in a if waiting.get(key(node))]


def _aligned(a: list[Node], b: list[Node]) -> list[tuple[Node, Node]]:
    if max(len(a), len(b)) > MOST_TO_ALIGN:
        return _by_key(a, b, _key)
    blocks = SequenceMatcher(None, [_key(n) for n in a], [_key(n) for n in b], autojunk=False).get_matching_blocks()
    return [(a[i + k], b[j + k]) for i, j, size in blocks for k in range(size)]


def _unmatched(graph: BackwardPass, matched: set[str]) -> Iterator[str]:
    yield from (f"pass {graph.index}: {_label(node)}" for node in graph.nodes if node.id not in matched)


def _label(node: Node) -> str:
    source = node.source or node.library
    if node.kind != "function":
        return f"{node.kind} {node.name or node.id}"
    text = f" `{' '.join(source.text.split())}`" if source else ""
    return f"{node.op}{text}{f' in {node.module}' if node.module else ''}"


def _changes(graph: BackwardPass, pairs: list[tuple[Node, Node]], tolerance: Tolerance) -> Iterator[Change]:
    for a, b in pairs:
        for index in range(max(len(a.grads), len(b.grads))):
            first, second = (node.grads[index] if index < len(node.grads) else None for node in (a, b))
            apart = distance(first, second, tolerance)
            if apart is not None:
                relative = None if math.isinf(apart) else apart
                source = a.source or a.library
                yield Change(graph.index, a.id, b.id, a.kind, _label(a), source, first, second, relative)


def distance(a: TensorStats | None, b: TensorStats | None, tolerance: Tolerance) -> float | None:
    """Return how far two gradients are apart relative to the larger, infinity where no number tells, None if equal."""
    if a is None or b is None:
        return None if a is b else math.inf
    if a.shape != b.shape or (a.nan, a.inf) != (b.nan, b.inf):
        return math.inf
    pairs = _numbers(a, b)
    scale = max((abs(x) for stats in (a, b) for x in (stats.min, stats.max) if x is not None), default=0.0)
    apart = max((abs(x - y) for x, y in pairs), default=0.0)
    if apart <= tolerance.atol + tolerance.rtol * scale:
        return None
    return apart / scale if scale else math.inf


def _numbers(a: TensorStats, b: TensorStats) -> list[tuple[float, float]]:
    if a.values is not None and b.values is not None:
        pairs = zip(flat(a.values), flat(b.values), strict=False)
    else:
        size = math.sqrt(max(math.prod(a.shape), 1))  # so that the norm is on the scale of one element
        norms = [None if stats.norm is None else stats.norm / size for stats in (a, b)]
        pairs = zip([a.mean, a.min, a.max, norms[0]], [b.mean, b.min, b.max, norms[1]], strict=True)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _reasons(before: Trace, after: Trace) -> Iterator[str]:
    """Yield what else differs and may be why: versions, dtypes, the leaves themselves, the script's error."""
    for name in ("torch", "python"):
        if before.versions.get(name) != after.versions.get(name):
            yield f"{name} {before.versions.get(name)} before, {after.versions.get(name)} after"
    if before.command != after.command:
        yield f"`{' '.join(before.command)}` before, `{' '.join(after.command)}` after"
    if before.passes and after.passes:
        yield from _of_first_pass(before.passes[0], after.passes[0])
    if (before.error is None) != (after.error is None):
        yield f"the script ended in an error {'after' if before.error is None else 'before'} only"


def _of_first_pass(a: BackwardPass, b: BackwardPass) -> Iterator[str]:
    dtypes = [sorted({g.dtype for node in graph.nodes for g in node.grads if g}) for graph in (a, b)]
    if dtypes[0] != dtypes[1]:
        yield f"gradients are {', '.join(dtypes[0])} before, {', '.join(dtypes[1])} after"
    leaves = [(x, y) for x, y in match(a, b) if x.kind == "leaf"]
    other = [x.name or x.id for x, y in leaves if x.values and y.values and _moved(x.values[0], y.values[0])]
    if other:
        yield (
            f"{len(other)} of {len(leaves)} leaves hold other values before the first pass ({', '.join(other[:3])}): "
            "another seed, initialisation or data"
        )


def _moved(a: TensorStats | None, b: TensorStats | None) -> bool:
    return distance(a, b, Tolerance(1e-6 if a and a.dtype == "float32" else 1e-2, 0.0)) is not None
