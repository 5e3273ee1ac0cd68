"""Magnitudes of gradients along a path: vanishing, exploding, too small for their dtype."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.stats_queries import flat, is_broken, size
from gradtrace.graph import longest_path
from gradtrace.model import Finding
from gradtrace.ops import op_name, op_of
from gradtrace.wording.nodes import described, first_few, position
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.graph import longest_path
from gradtrace.model import BackwardPass, Edge, Node, TensorStats

__all__ = ["exploding", "underflow", "vanishing"]

NONFINITE = ("nonfinite-forward", "nonfinite-origin")
KEEP = (
    "use a non-saturating activation (ReLU, GELU), a normalisation layer, residual connections, or an "
    "initialisation that keeps the variance"
)
REMEMBER = "shorten the sequence, use an LSTM or GRU with its forget gate's bias at 1, attention, or a loss per step"
TAME = (
    "scale the initialisation down, add a normalisation layer, clip the gradient "
    "(torch.nn.utils.clip_grad_norm_), or shorten the sequence"
)
SMALLEST_NORMAL = 2.0**-14  # of float16: precision is lost below it, and every digit below 2**-24
_LAYERS = 3  # from this number on, a limit per layer applies
LEAST = 2.0**-149  # the smallest float32 above zero


class _Stretch(NamedTuple):
    """Part of a path over which the norm only shrank or only grew: its nodes and their norms, start to end.

    ``layers`` are the positions of those that have weights of their own, and of which weights.
    """

    nodes: list[Node]
    norms: list[float]
    layers: list[tuple[int, frozenset[str]]]

    @property
    def ratio(self) -> float:
        return self.norms[-1] / self.norms[0]

    @property
    def is_recurrent(self) -> bool:
        """Tell whether the stretch goes through the same weights repeatedly."""
        uses = Counter(leaf for _, leaves in self.layers for leaf in leaves)
        return len(self.layers) > 1 and max(uses.values()) > len(self.layers) / 2

    @property
    def factor(self) -> str:
        """The factor per layer, per step of a recurrence, or per op where there are no weights on the way."""
        end = max(at for at, norm in enumerate(self.norms) if norm > LEAST)
        count, unit = end, "op"
        if len(self.layers) > 1:
            count, unit = sum(at <= end for at, _ in self.layers) - 1, "step" if self.is_recurrent else "layer"
        many = f" ({len(self.layers):,} {unit}s)" if unit != "op" else ""
        ratio = self.norms[end] / self.norms[0]
        return f"a factor of {number(ratio ** (1 / max(count, 1)))} per {unit}{many}"


@check("vanishing", after=NONFINITE, thresholds={"vanishing": 1e-6, "vanishing_layer": 0.1}, uses=("layers",))
def vanishing(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """The gradient's norm shrinks along the path from the loss until next to nothing is left.

    Next to nothing of the whole, or, over three layers and more, less per layer than each should hand on.
    Measured on the longest path, from the first tensor of more than one element, so that a mean over many
    elements is no fault; and only if several ops share in it, so that a deliberate scaling is none.
    """
    stretch = _stretch(graph, limits, -1)
    if stretch is not None and (stretch.ratio < limits.vanishing or _is_lost_by_layer(stretch, limits.vanishing_layer)):
        finding = _finding(graph, stretch, "vanishing")
        if stretch.is_recurrent:
            finding = replace(finding, message=finding.message + _lost_steps(stretch, limits.vanishing), hint=REMEMBER)
        # A gated cell can learn to keep its state; a plain one can't.
        yield replace(finding, severity="info") if stretch.is_recurrent and _is_gated(graph, stretch) else finding


@check("exploding", after=NONFINITE, thresholds={"exploding": 1e6, "layers": 4})
def exploding(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """The gradient's norm grows along the path from the loss beyond all measure."""
    stretch = _stretch(graph, limits, +1)
    if stretch is not None and stretch.ratio > limits.exploding:
        yield _finding(graph, stretch, "exploding")


def _stretch(graph: BackwardPass, limits: Thresholds, sign: int) -> _Stretch | None:
    """Return the stretch of the longest path at whose end the norm is furthest from any before it, if shared."""
    if not _ranges(graph, limits):
        return None
    path = _profile(graph)
    if len(path) < limits.layers + 1:
        return None
    # A norm that recovers later has not vanished; the steps of a recurrence are reported even so.
    return _between(graph, path, limits, sign) or _of_steps(graph, path, limits, sign)


def _between(graph: BackwardPass, path: list[tuple[Node, float]], limits: Thresholds, sign: int) -> _Stretch | None:
    """Return the stretch from where the norm was furthest from its last one, if several ops share in it."""
    logs = [sign * math.log(norm) for _, norm in path]
    end = len(logs) - 1
    start = min(range(end + 1), key=lambda i: (logs[i], -i))
    steps = sorted((max(logs[i + 1] - logs[i], 0.0) for i in range(start, end)), reverse=True)
    if not _is_shared(steps, logs[end] - logs[start], limits.layers):
        return None
    nodes = [node for node, _ in path[start:]]
    weights = [(at, _weights(graph, node)) for at, node in enumerate(nodes)]
    return _Stretch(nodes, [norm for _, norm in path[start:]], [pair for pair in weights if pair[1]])


def _of_steps(graph: BackwardPass, path: list[tuple[Node, float]], limits: Thresholds, sign: int) -> _Stretch | None:
    """Return the stretch to the step of a recurrence that is furthest from its start."""
    end = max(range(len(path)), key=lambda i: sign * math.log(path[i][1]))
    stretch = _between(graph, path[: end + 1], limits, sign) if end >= limits.layers else None
    return stretch if stretch is not None and stretch.is_recurrent else None


def _is_shared(steps: list[float], total: float, layers: float) -> bool:
    """Tell whether most of the total takes several of these steps, counted from the largest."""
    if total <= 0 or sum(steps[:2]) > total * 0.6:
        return False
    sums = accumulate(steps)
    return 1 + sum(1 for _ in takewhile(lambda so_far: so_far < total * 0.9, sums)) >= layers


def _weights(graph: BackwardPass, node: Node) -> frozenset[str]:
    """Return the leaves that the node sends a gradient to, at once or through what only transposes them."""
    leaves: set[str] = set()
    for edge in graph.edges_from[node.id]:
        target = graph.by_id[edge.target]
        if target.kind == "function" and _only_prepares_leaf(graph, target):
            leaves.update(below.target for below in graph.edges_from[target.id])
        elif target.kind == "leaf":
            leaves.add(target.id)
    return frozenset(leaves)


def _is_lost_by_layer(stretch: _Stretch, limit: float) -> bool:
    """Tell whether each of several layers, other than the steps of a recurrence, hands on too little on average."""
    layers = len(stretch.layers)
    return layers >= _LAYERS and not stretch.is_recurrent and stretch.ratio < limit**layers


def _ranges(graph: BackwardPass, limits: Thresholds) -> bool:
    """Tell whether norms differ enough anywhere, which is quickly seen: in a sound pass they do not."""
    norms = [grad.norm for node in graph.nodes if node.order is not None for grad in node.grads if grad and grad.norm]
    whole = 1 / limits.vanishing if limits.vanishing else math.inf
    layers = limits.vanishing_layer**-_LAYERS if limits.vanishing_layer else math.inf
    least = min(whole, layers, limits.exploding)
    return bool(norms) and max(norms) / min(norms) >= least


def _profile(graph: BackwardPass) -> list[tuple[Node, float]]:
    """Return the nodes of the longest path and the norm that arrived at each, scalars before the first tensor aside."""
    profile: list[tuple[Node, float]] = []
    for node in longest_path(graph):
        if node.kind == "leaf" or (node.kind == "function" and _only_prepares_leaf(graph, node)):
            break
        stats = next((grad for grad in node.grads if grad is not None), None)
        if node.kind == "function" and stats is not None and stats.norm is not None and (stats.norm or profile):
            profile.append((node, stats.norm or LEAST))  # below the smallest number there is only zero
    tensors = [i for i, (node, _) in enumerate(profile) if any(g is not None and size(g) > 1 for g in node.grads)]
    return profile[tensors[0] :] if tensors else profile


def _only_prepares_leaf(graph: BackwardPass, node: Node) -> bool:
    """Tell whether a node only transposes or views a leaf, so that its gradient is the weight's, not the path's."""
    targets = [graph.by_id[edge.target] for edge in graph.edges_from[node.id]]
    return op_name(node.op) in {"T", "Transpose", "View", "Expand", "Permute", "Unsqueeze"} and all(
        target.kind == "leaf" for target in targets
    )


def _lost_steps(stretch: _Stretch, limit: float) -> str:
    """Return the sentence on the steps of a recurrence that the gradient does not reach."""
    lost = sum(stretch.norms[at] < limit * stretch.norms[0] for at, _ in stretch.layers)
    return (
        f". The first {lost:,} of the {len(stretch.layers):,} steps get less than {number(limit)} of it: its weights "
        "learn from the later ones alone"
    )


def _is_gated(graph: BackwardPass, stretch: _Stretch) -> bool:
    last = stretch.nodes[-1]
    return any(op_name(node.op) == "Sigmoid" and node.source == last.source for node in graph.nodes)


def _finding(graph: BackwardPass, stretch: _Stretch, name: str) -> Finding:
    word, hint = ("vanished", KEEP) if name == "vanishing" else ("exploded", TAME)
    first, last = stretch.nodes[0], stretch.nodes[-1]
    step = max(1, (len(stretch.norms) - 1) // 4)
    profile = " → ".join(
        number(norm if norm > LEAST else 0.0) for norm in [*stretch.norms[:-1:step], stretch.norms[-1]]
    )
    leaves = [graph.by_id[edge.target] for edge in graph.edges_from[last.id]]
    hit = first_few(leaf.name for leaf in leaves if leaf.kind == "leaf" and leaf.name)
    message = (
        f"the gradient {word} between {described(first)} and {described(last)}: its norm went {profile} over "
        f"{len(stretch.nodes):,} ops, {stretch.factor}"
        + (f". It ends at {hit}" if hit else "")
        + (f" (pass called at {position(graph.call)})" if graph.call else "")
    )
    return Finding(name, "warning", message, hint, (last.id, first.id), last.source or last.library)


@check("underflow", after=NONFINITE, thresholds={"underflow": 0.1})
def underflow(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """Half-precision gradients of which a notable share became zero or subnormal."""
    lost = [(node, edge, share) for node, edge, share in _lost(graph) if share > limits.underflow]
    if not lost:
        return
    node, edge, share = lost[0]
    stats = edge.grad
    assert stats is not None  # noqa: S101 - _lost yields no others
    worst = max(lost, key=lambda each: each[2])
    yield Finding(
        "underflow", "warning",
        f"{share:.0%} of the float16 gradient that {described(node)} sent on is zero or subnormal (below "
        f"{SMALLEST_NORMAL:.2g}): its largest element is {number(max(abs(stats.min or 0.0), abs(stats.max or 0.0)))}. "
        f"{len(lost)} of {len(graph.edges)} gradients in this pass are like that, the worst with {worst[2]:.0%}",
        "scale the loss with torch.amp.GradScaler, or use bfloat16, which has the range of float32",
        (node.id, *dict.fromkeys(each[0].id for each in lost[1:])), node.source or node.library,
    )  # fmt: skip


def _lost(graph: BackwardPass) -> Iterator[tuple[Node, Edge, float]]:
    """Yield the float16 gradients with the share of their elements that underflowed."""
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
    op = op_of(node.op)
    natural = op.sparse or not arrived or (zeros == 1 and op.saturates)
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
    # Upper bound on the share of the other elements above it, from the sum of their squares.
    above = min(((stats.norm or 0.0) / SMALLEST_NORMAL) ** 2 / max(size(stats), 1), nonzero)
    return nonzero - above
