"""Where the derivative of a common op has no bound, said with the numbers at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.stats_queries import inputs, size
from gradtrace.ops import op_name, op_of

if TYPE_CHECKING:
    from gradtrace.checks.broken_element import Element
    from gradtrace.model import BackwardPass, Node, TensorStats

__all__ = ["backward_reason", "forward_reason"]


LARGEST = {"float16": 65504.0, "bfloat16": 3.4e38, "float32": 3.4e38, "float64": 1.8e308}
WIDER = "Compute this in float32 (under autocast it would be), or use bfloat16, which has the range of float32"
SMALLER = "Lower the learning rate, clip gradients, or scale what comes in"


def backward_reason(node: Node, graph: BackwardPass, element: Element | None) -> str:
    """Return why this op's derivative has no bound: in numbers where these say more than its name."""
    name, op = op_name(node.op), op_of(node.op)
    if name == "Mul" and element is not None:
        factor = next((value for value in element.saved.values() if isinstance(value, str)), None)
        if factor is not None:
            return f"the other factor is {factor}, and the derivative by the one is the other"
    if name == "Div" and element is not None and element.saved.get("other") == 0:
        return "the denominator is 0, and dividing by 0 has the derivative 1/0 = infinity"
    least = min((s.min for _, s in inputs(graph, node) if s is not None and s.min is not None), default=0.0)
    if op.least is not None and least < op.least:
        return f"{name.lower()} has no derivative below {op.least:g}"
    return op.pole


def forward_reason(node: Node, graph: BackwardPass, output: TensorStats | None) -> str:
    """Return what to do about a value that is not finite."""
    came_in = [stats for _, stats in inputs(graph, node) if stats is not None]
    largest = max((abs(x) for stats in came_in for x in (stats.min, stats.max) if x is not None), default=0.0)
    if any(not size(stats) for stats in came_in):
        return "a mean over nothing is 0/0: leave the term out where nothing was selected, or divide by max(count, 1)"
    known = op_of(node.op).is_singular and op_name(node.op) != "Pow"
    if output is not None and output.inf and not output.nan and largest > 1 and not known:
        limit = LARGEST.get(output.dtype, 0.0)
        return f"it overflows: {output.dtype} ends at {limit:.4g}. {WIDER if limit < 1e6 else SMALLER}" if limit else ""  # noqa: PLR2004
    return op_of(node.op).domain
