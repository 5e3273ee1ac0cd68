"""How large gradients are along the way: vanishing, exploding, too small for their dtype."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.paths import longest_path
from gradtrace.checks.reading import base, flat, is_broken, place, say, size, some, where
from gradtrace.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Edge, Node, TensorStats

__all__ = ["exploding", "underflow", "vanishing"]

NONFINITE = ("nonfinite-forward", "nonfinite-origin")
KEEP = (
    "use a non-saturating activation (ReLU, GELU), a normalisation layer, residual connections, or an "
    "initialisation that keeps the variance"
)
TAME = (
    "scale the initialisation down, add a normalisation layer, clip the gradient "
    "(torch.nn.utils.clip_grad_norm_), or shorten the sequence"
)
SMALLEST_NORMAL = 2.0**-14  # of float16; below it precision goes, below 2**-24 everything
# Ops whose gradient has zeros by their nature; that is no underflow.
SPARSE = {"Relu", "Threshold", "HardtanhBackward", "Max", "Min", "Amax", "Amin", "MaxPool2DWithIndices", "Index"}
SPARSE |= {"Where", "MaskedFill", "Select", "Slice", "Gather", "Embedding", "NllLoss", "Clamp", "Dropout", "Mul"}
SPARSE |= {
    "NativeDropout",
    "Pad",
    "ConstantPadNd",
    "Topk",
    "Sort",
    "Cat",
    "LeakyRelu",
    "Abs",
    "Sgn",
    "Copy",
    "CopySlices",
}


class _Stretch(NamedTuple):
    """The part of a path over which the norm went one way: its nodes and their norms, start to end."""

    nodes: list[Node]
    norms: list[float]

    @property
    def ratio(self) -> float:
        return self.norms[-1] / self.norms[0]

    @property
    def per_op(self) -> float:
        return float(self.ratio ** (1 / max(len(self.norms) - 1, 1)))


@check("vanishing", after=NONFINITE, uses=("vanishing", "layers"))
def vanishing(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """The gradient's norm shrinks along the path from the loss until next to nothing is left.

    Measured on the longest path, from the first tensor of more than one element, so that a mean over many
    elements is no fault; and only if several ops share in it, so that a deliberate scaling is none.
    """
    found = _stretch(graph, limits, -1)
    if found is not None and found.ratio < limits.vanishing:
        yield _finding(graph, found, "vanishing")


@check("exploding", after=NONFINITE, uses=("exploding", "layers"))
def exploding(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """The gradient's norm grows along the path from the loss beyond all measure."""
    found = _stretch(graph, limits, +1)
    if found is not None and found.ratio > limits.exploding:
        yield _finding(graph, found, "exploding")


def _stretch(graph: BackwardPass, limits: Thresholds, sign: int) -> _Stretch | None:
    """Return the stretch of the longest path at whose end the norm is furthest from any before it, if shared."""
    path = _profile(graph)
    if len(path) < limits.layers + 1:
        return None
    logs = [sign * math.log(norm) for _, norm in path]
    end = len(logs) - 1  # what comes back up later has not vanished
    start = min(range(end + 1), key=lambda i: (logs[i], -i))
    steps = sorted((max(logs[i + 1] - logs[i], 0.0) for i in range(start, end)), reverse=True)
    total = logs[end] - logs[start]
    # The largest steps aside there must be enough left: several ops share in it.
    if sum(step > total / 100 for step in steps) < limits.layers or sum(steps[:2]) > total * 0.6:
        return None
    return _Stretch([node for node, _ in path[start:]], [norm for _, norm in path[start:]])


def _profile(graph: BackwardPass) -> list[tuple[Node, float]]:
    """Return the nodes of the longest path and the norm that arrived at each, scalars before the first tensor aside."""
    found: list[tuple[Node, float]] = []
    for node in longest_path(graph):
        if node.kind == "leaf" or (node.kind == "function" and _only_prepares_leaf(graph, node)):
            break
        stats = next((grad for grad in node.grads if grad is not None), None)
        if node.kind == "function" and stats is not None and stats.norm:
            found.append((node, stats.norm))
    tensors = [i for i, (node, _) in enumerate(found) if any(g is not None and size(g) > 1 for g in node.grads)]
    return found[tensors[0] :] if tensors else found


def _only_prepares_leaf(graph: BackwardPass, node: Node) -> bool:
    """Tell whether a node only transposes or views a leaf, so that its gradient is the weight's, not the path's."""
    targets = [graph.by_id[edge.target] for edge in graph.edges_from[node.id]]
    return base(node.op) in {"T", "Transpose", "View", "Expand", "Permute", "Unsqueeze"} and all(
        target.kind == "leaf" for target in targets
    )


def _finding(graph: BackwardPass, found: _Stretch, name: str) -> Finding:
    word, hint = ("vanished", KEEP) if name == "vanishing" else ("exploded", TAME)
    first, last = found.nodes[0], found.nodes[-1]
    step = max(1, (len(found.norms) - 1) // 4)
    profile = " → ".join(say(norm) for norm in [*found.norms[:-1:step], found.norms[-1]])
    leaves = [graph.by_id[edge.target] for edge in graph.edges_from[last.id]]
    hit = some(leaf.name for leaf in leaves if leaf.kind == "leaf" and leaf.name)
    message = (
        f"the gradient {word} between {where(first)} and {where(last)}: its norm went {profile} over "
        f"{len(found.nodes)} ops, a factor of {say(found.per_op)} per op"
        + (f". It ends at {hit}" if hit else "")
        + (f" (pass called at {place(graph.call)})" if graph.call else "")
    )
    return Finding(name, "warning", message, hint, (last.id, first.id), last.source or last.library)


@check("underflow", after=NONFINITE, uses=("underflow",))
def underflow(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """Half-precision gradients of which a notable share became zero or subnormal."""
    lost = [(node, edge, share) for node, edge, share in _lost(graph) if share > limits.underflow]
    if not lost:
        return
    node, edge, share = lost[0]
    stats = edge.grad
    assert stats is not None  # noqa: S101 - _lost yields no others
    worst = max(lost, key=lambda found: found[2])
    yield Finding(
        "underflow", "warning",
        f"{share:.0%} of the float16 gradient that {where(node)} sent on is zero or subnormal (below "
        f"{SMALLEST_NORMAL:.2g}): its largest element is {say(max(abs(stats.min or 0.0), abs(stats.max or 0.0)))}. "
        f"{len(lost)} of {len(graph.edges)} gradients in this pass are like that, the worst with {worst[2]:.0%}",
        "scale the loss with torch.amp.GradScaler, or use bfloat16, which has the range of float32",
        (node.id, *dict.fromkeys(found[0].id for found in lost[1:])), node.source or node.library,
    )  # fmt: skip


def _lost(graph: BackwardPass) -> Iterator[tuple[Node, Edge, float]]:
    """Yield the float16 gradients with the share of their elements that got lost on the way."""
    for node in graph.nodes:
        if node.kind == "output":
            continue
        for edge in graph.edges_from[node.id]:
            stats = edge.grad
            if stats is None or stats.dtype != "float16" or is_broken(stats) or stats.note:
                continue
            yield node, edge, _lost_share(node, stats)


def _lost_share(node: Node, stats: TensorStats) -> float:
    arrived = [grad for grad in node.grads if grad is not None]
    before = max((grad.zeros or 0.0 for grad in arrived), default=0.0)
    zeros = stats.zeros or 0.0
    natural = base(node.op) in SPARSE or not arrived
    fresh = 0.0 if natural else max(zeros - before, 0.0)
    return min(fresh + _subnormal_share(stats), 1.0)


def _subnormal_share(stats: TensorStats) -> float:
    """Return the share of elements between zero and the smallest normal number; a lower bound for large tensors."""
    if stats.values is not None:
        held = [abs(value or 0.0) for value in flat(stats.values)]
        return sum(0 < value < SMALLEST_NORMAL for value in held) / max(len(held), 1)
    nonzero = 1 - (stats.zeros or 0.0)
    largest = max(abs(stats.min or 0.0), abs(stats.max or 0.0))
    if largest < SMALLEST_NORMAL:
        return nonzero
    # At most this share of the others can reach it, given the sum of their squares.
    above = min(((stats.norm or 0.0) / SMALLEST_NORMAL) ** 2 / max(size(stats), 1), nonzero)
    return nonzero - above
