"""Where the derivative of a common op has no bound, said with the numbers at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.stats_queries import inputs, size
from gradtrace.wording.nodes import base

if TYPE_CHECKING:
    from gradtrace.checks.broken_element import Element
    from gradtrace.model import BackwardPass, Node, TensorStats

__all__ = ["Blowup", "at_element", "blowup", "forward_reason"]


class Blowup(NamedTuple):
    """Why an op's derivative is infinite, why its value is, and what helps."""

    backward: str = ""
    forward: str = ""
    remedy: str = ""


LARGEST = {"float16": 65504.0, "bfloat16": 3.4e38, "float32": 3.4e38, "float64": 1.8e308}
WIDER = "Compute this in float32 (under autocast it would be), or use bfloat16, which has the range of float32"
SMALLER = "Lower the learning rate, clip gradients, or scale what comes in"
RULES: dict[str, Blowup] = {
    "Sqrt": Blowup(
        "sqrt at 0 has the derivative 1/(2·sqrt(0)) = infinity",
        "sqrt of a negative number is NaN: clamp its input at 0 (rounding makes small negatives)",
        "torch.sqrt(x + eps), or x.clamp(min=eps).sqrt()",
    ),
    "Rsqrt": Blowup(
        "rsqrt at 0 has the derivative -1/2 · 0^(-3/2) = infinity", "rsqrt of 0 is infinite: add eps", "add eps inside"
    ),
    "Log": Blowup("log at 0 has the derivative 1/0 = infinity", "log of 0 is -infinity, of a negative number NaN: "
                  "torch.log(x.clamp(min=eps)), or log_softmax / binary_cross_entropy_with_logits on the logits",
                  "torch.log(x.clamp(min=eps)), or log_softmax on the logits"),
    "Div": Blowup(
        "dividing by 0 has the derivative 1/0 = infinity",
        "a division by 0: add eps to the denominator, or replace its zeros before dividing",
        "replace the zeros of the denominator before dividing: x / torch.where(d == 0, 1, d)",
    ),
    "Reciprocal": Blowup("1/x at 0 has the derivative -1/0² = infinity", "1/0 is infinite: add eps", "add eps to x"),
    "Pow": Blowup(
        "a power below 1 has an infinite derivative at 0: p·0^(p-1)",
        "0 to a negative power is infinite, a negative number to a fractional power is NaN: clamp the base",
        "clamp the base above 0: x.clamp(min=eps) ** p",
    ),
    "Std": Blowup("", "the standard "
                  "deviation of a single element is NaN: use correction=0, or more elements",
                  "torch.sqrt(x.var() + eps)"),
    "Exp": Blowup("exp overflows: its derivative is its own value", "exp overflows above 88 in float32 (11 in "
                  "float16): subtract the maximum first, or use logsumexp / softmax / log1p",
                  "subtract the maximum first, or clamp the argument"),
    "Acos": Blowup("acos at ±1 has the derivative -1/sqrt(1-1) = infinity", "acos outside [-1, 1] is NaN: clamp",
                   "x.clamp(-1 + eps, 1 - eps)"),
    "Asin": Blowup("asin at ±1 has the derivative 1/sqrt(1-1) = infinity", "asin outside [-1, 1] is NaN: clamp",
                   "x.clamp(-1 + eps, 1 - eps)"),
    "Softmax": Blowup("", "softmax of a row that is all -infinity (everything masked) is NaN: leave one element "
                      "unmasked, or replace the row afterwards with torch.where on the input", ""),
    "LogSoftmax": Blowup("", "log_softmax of a row that is all -infinity is NaN: leave one element unmasked", ""),
    "Sinh": Blowup("", "sinh overflows: clamp its argument", ""),
    "LinalgEigh": Blowup("eigh's derivative divides by differences of eigenvalues, and two of them are equal", "",
                         "perturb the matrix a little, or differentiate something that does not depend on the vectors"),
    "LinalgSvd": Blowup("svd's derivative divides by differences of singular values, and two of them are equal", "",
                        "perturb the matrix a little, or use only the singular values"),
}  # fmt: skip


def blowup(node: Node, graph: BackwardPass) -> Blowup:
    """Return why this op's derivative or value is not finite, as far as its name and input tell."""
    found = RULES.get(base(node.op).removeprefix("_"), Blowup())
    if base(node.op) in {"Sqrt", "Log"} and _below_zero(node, graph):
        word = base(node.op).lower()
        return found._replace(backward=f"{word} has no derivative below 0")
    return found


def at_element(reason: Blowup, node: Node, element: Element | None) -> str:
    """Return why the derivative blew up at this element, in numbers where they say more than the op's name."""
    if base(node.op) == "Mul" and element is not None:
        factor = next((value for value in element.saved.values() if isinstance(value, str)), None)
        if factor is not None:
            return f"the other factor is {factor}, and the derivative by the one is the other"
    if base(node.op) == "Div" and element is not None and element.saved.get("other") == 0:
        return "the denominator is 0, and dividing by 0 has the derivative 1/0 = infinity"
    return reason.backward


def forward_reason(node: Node, graph: BackwardPass, output: TensorStats | None) -> str:
    """Return what to do about a value that is not finite."""
    came_in = [stats for _, stats in inputs(graph, node) if stats is not None]
    largest = max((abs(x) for stats in came_in for x in (stats.min, stats.max) if x is not None), default=0.0)
    if any(not size(stats) for stats in came_in):
        return "a mean over nothing is 0/0: leave the term out where nothing was selected, or divide by max(count, 1)"
    name = base(node.op).removeprefix("_")
    if output is not None and output.inf and not output.nan and largest > 1 and name not in RULES.keys() - {"Pow"}:
        limit = LARGEST.get(output.dtype, 0.0)
        return f"it overflows: {output.dtype} ends at {limit:.4g}. {WIDER if limit < 1e6 else SMALLER}" if limit else ""  # noqa: PLR2004
    return blowup(node, graph).forward


def _below_zero(node: Node, graph: BackwardPass) -> bool:
    return any(stats is not None and stats.min is not None and stats.min < 0 for _, stats in inputs(graph, node))
