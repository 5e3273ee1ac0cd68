"""Findings of births of values that are not finite: the op, its operands at the element, and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.model import Finding
from gradtrace.ops import ELEMENTWISE, op_name
from gradtrace.singularities import LARGEST, SMOOTHER, overflow, value_at
from gradtrace.wording.nodes import as_tuple, described, quoted
from gradtrace.wording.numbers import number
from gradtrace.wording.operands import operand_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Attribute, BackwardPass, Fact, Node, Source

__all__ = ["FINITE", "SMALLER", "WIDER", "birth_found", "overflow_swallowed"]

HALF = 1e6  # above the range of float16, the half-precision type with a small range
WIDER = "compute this in float32 (under autocast it would be), or use bfloat16, which has the range of float32"
SMALLER = "scale what comes in, clip gradients, or lower the learning rate"
FINITE = (
    "keep its input inside the range where it is finite: clamp it, add eps, or use the stable form (log_softmax, "
    "logsumexp, log1p, ...)"
)
# Functions that only add and multiply: of finite operands, an infinity is an overflow.
_SUMS = {
    "sum", "mean", "matmul", "mm", "bmm", "addmm", "linear", "conv1d", "conv2d", "conv3d", "einsum", "prod", "norm",
    "cumsum", "var", "std", "mse_loss", "l1_loss", "linalg_vector_norm", "dot", "baddbmm", "logsumexp", "cdist",
}  # fmt: skip
_ALL_MASKED = "leave one element unmasked, or replace the row before it with torch.where"


def birth_found(graph: BackwardPass, fact: Fact) -> Finding:
    """Return the finding of a birth whose value reached an output."""
    node = graph.by_id[fact.nodes[0]] if fact.nodes else None
    source = fact.source if fact.source is not None or node is None else node.source or node.library
    message = f"{_maker(fact, node, source)} turned {_came_in(fact)} into {fact.data['what']} ({_how_many(fact)})"
    told, hint = _why(fact, source)
    nodes = (node.id,) if node else ()
    return Finding("nonfinite-forward", "error", ": ".join([message, *told]), hint or FINITE, nodes, source)


def overflow_swallowed(graph: BackwardPass, fact: Fact) -> Finding:
    """Return the finding of an overflow that a later op turned into zeros, which hides it."""
    found = birth_found(graph, fact)
    later = described(graph.by_id[fact.nodes[-1]])
    more = f"{later} makes 0 of that: everything stays finite, but what comes of it is 0 and gets no gradient"
    message = f"{found.message}. {more[0].upper()}{more[1:]}" if more[0].islower() else f"{found.message}. {more}"
    return Finding(found.check, "error", message, found.hint, fact.nodes, found.source)


def _maker(fact: Fact, node: Node | None, source: Source | None) -> str:
    """Return the op with its expression and line; the function's name where that made several nodes."""
    op = str(fact.data["op"])
    if node is not None and (op in ELEMENTWISE or op_name(node.op).lower().strip("_") == op or op == "custom_function"):
        return described(node)
    module = f" in {node.module}" if node is not None and node.module else ""
    return quoted(source).removesuffix(")") + f"{module})" if module else quoted(source)


def _came_in(fact: Fact) -> str:
    return "infinities" if fact.data["from"] == "infinities" else "finite inputs"


def _how_many(fact: Fact) -> str:
    total = 1
    for length in _numbers(fact.data["shape"]):
        total *= length
    return f"{int(str(fact.data['count'])):,} of {total:,} element{'' if total == 1 else 's'}"


def _numbers(value: object) -> list[int]:
    return [int(str(item)) for item in value] if isinstance(value, list) else []


def _why(fact: Fact, source: Source | None) -> tuple[list[str], str]:
    """Return the values at the element, in sentences, and the remedy."""
    op, dtype = str(fact.data["op"]), str(fact.data["dtype"])
    special = _special(fact, op, source)
    if special:
        return [special[0]], special[1]
    told = "; ".join(_operands(fact, op, source))
    facts = [told] if told else []
    values = _values(fact)
    if values is not None:
        point = value_at(op, values)
        if point is not None:
            return [*facts, point.said], point.remedy
        beyond = overflow(op, values, dtype)
        if beyond:
            return [*facts, beyond], SMOOTHER.get(op, WIDER if LARGEST.get(dtype, 0.0) < HALF else SMALLER)
    if fact.data["what"] == "infinity" and fact.data["from"] == "finite" and op in _SUMS:
        return [*facts, f"it overflows: {dtype} ends at {LARGEST[dtype]:.4g}"], WIDER if LARGEST[
            dtype
        ] < HALF else SMALLER
    return facts, ""


def _values(fact: Fact) -> list[float] | None:
    """Return the operands at the element; None if one of them is unknown."""
    numbers: list[float] = []
    for operand in _list(fact.data["operands"]):
        value = operand[0] if isinstance(operand, list) else None
        if value is None:
            return None
        numbers.append(float(str(value)))
    return numbers


def _list(value: object) -> list[Attribute]:
    return value if isinstance(value, list) else []


def _operands(fact: Fact, op: str, source: Source | None) -> Iterator[str]:
    """Yield for each tensor its value at the element, or else its range."""
    texts = operand_texts(source.text, op) if source is not None else []
    index = _numbers(fact.data["element"])
    for position, operand in enumerate(_list(fact.data["operands"])):
        if not isinstance(operand, list):
            continue
        value, shape, low, high = operand
        name = texts[position] if position < len(texts) else "its operand"
        if (low is None and high is None and not _numbers(shape)) or name.lstrip("-").replace(".", "").isdigit():
            continue
        if value is not None:
            size = value if isinstance(value, str) else f"{float(str(value)):.5g}"
            yield f"{name}{_place(index, _numbers(shape))} is {size}"
        elif 0 in _numbers(shape):
            yield f"{name} is empty, of shape {as_tuple(shape)}"
        elif low is not None and high is not None and position < max(len(texts), 1):
            yield f"{name} is in [{number(float(str(low)))}, {number(float(str(high)))}]"


def _place(index: list[int], shape: list[int]) -> str:
    """Return an element's index in an operand that was expanded: ``[3, 0]``.

    >>> _place([3, 1], [4, 1]), _place([3, 1], [2]), _place([3], [])
    ('[3, 0]', '[1]', '')
    """
    own = index[len(index) - len(shape) :]
    return f"[{', '.join(str(0 if size == 1 else i) for i, size in zip(own, shape, strict=True))}]" if shape else ""


def _special(fact: Fact, op: str, source: Source | None) -> tuple[str, str] | None:
    """Return why a function with a special case of its own is not finite, and the remedy."""
    data = fact.data
    if "ignored" in data:
        return (
            f"every target is {data['ignored']}, the index that is ignored, and the mean over no target is 0/0",
            "leave a batch without targets out, or use reduction='sum' and divide by max(count, 1)",
        )
    if "needed" in data:
        told = f"target {data['row']} of {data['target']} labels needs {data['needed']} steps, blanks between repeats "
        return (
            f"{told}included, and has {data['steps']}",
            "give the target fewer labels or the input more steps; zero_infinity=True leaves such a target out",
        )
    if "singular" in data:
        return "the matrix is singular: its determinant is 0, and log of 0 is -infinity", "add eps to its diagonal"
    if "holds" in data:
        row = f"the row [{', '.join(str(i) for i in _list(data['row']))}]"
        if data["holds"] == "all":
            return f"{row} is -infinity as a whole (everything is masked), and {op} of that is 0/0", _ALL_MASKED
        return f"{row} holds +infinity, and {op} of that is infinity/infinity", "keep its input finite"
    return _too_few(fact, op, source)


def _too_few(fact: Fact, op: str, source: Source | None) -> tuple[str, str] | None:
    name = next(iter(operand_texts(source.text, op)), "its input") if source is not None else "its input"
    operand = next((o for o in _list(fact.data["operands"]) if isinstance(o, list) and o[1] != []), None)
    before, after = _count(operand[1]) if operand else 1, _count(fact.data["shape"])
    if before == 0 and op in {"mean", "nanmean", "mse_loss", "l1_loss", "cross_entropy", "nll_loss"}:
        return (
            f"{name} is empty, of shape {as_tuple(operand[1] if operand else [])}, and a mean over nothing is 0/0",
            "leave the term out where nothing was selected, or divide by max(count, 1)",
        )
    if op in {"std", "var", "std_mean", "var_mean"} and after and before <= after:
        return (
            f"it is over {'one element' if before else 'no element'}, and with correction=1 that is 0/0",
            "use correction=0 (unbiased=False), or more elements",
        )
    return None


def _count(shape: object) -> int:
    total = 1
    for length in _numbers(shape):
        total *= length
    return total
