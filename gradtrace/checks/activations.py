"""Activations applied twice: once by the model, and again inside the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.model import Finding
from gradtrace.ops import op_name
from gradtrace.wording.nodes import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Node

__all__ = ["activation_twice"]

# Ops that only reshape, between the two.
VIEWS = {"View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "Transpose", "Permute", "ToCopy"}
TWICE = {
    (
        "LogSoftmax",
        "Softmax",
    ): "takes log_softmax of probabilities: they are in [0, 1], so that the loss can't come "
    "near 0 and its gradient is small",
    ("BinaryCrossEntropyWithLogits", "Sigmoid"): "takes the sigmoid of a probability, which is at least 0.5",
    ("LogSoftmax", "LogSoftmax"): "takes log_softmax a second time, which changes nothing",
}
LOGITS = "give the loss the logits, and take the activation only where probabilities are shown"
PLAIN = "use nll_loss on log-probabilities, or cross_entropy on the logits"


@check("activation-twice")
def activation_twice(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """Softmax before cross_entropy, sigmoid before binary_cross_entropy_with_logits, log_softmax twice."""
    for node in graph.nodes:
        if node.kind != "function" or all(op_name(node.op) != outer for outer, _ in TWICE):
            continue
        inner = _first_input(graph, node)
        why = TWICE.get((op_name(node.op), op_name(inner.op))) if inner is not None else None
        if inner is not None and why:
            harmless = op_name(inner.op) == "LogSoftmax"
            yield Finding(
                "activation-twice", "info" if harmless else "warning",
                f"{described(inner)} goes into {described(node)}, which {why}", PLAIN if harmless else LOGITS,
                (node.id, inner.id), inner.source or inner.library,
            )  # fmt: skip


def _first_input(graph: BackwardPass, node: Node) -> Node | None:
    """Return the node of an op's first input, through those that only reshape."""
    at: Node | None = node
    for _ in range(len(VIEWS)):
        below = [edge.target for edge in graph.edges_from[at.id] if edge.source_index == 0] if at is not None else []
        at = graph.by_id[below[0]] if below else None
        if at is None or op_name(at.op) not in VIEWS:
            return at
    return at
