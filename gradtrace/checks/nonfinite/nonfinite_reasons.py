"""Reasons why an op's derivative is not finite at an element: only those that the numbers prove."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.ops import op_name
from gradtrace.singularities import SMOOTHER, overflow, slope_at, slope_overflow
from gradtrace.wording.nodes import quoted
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from gradtrace.checks.nonfinite.broken_element import Element
    from gradtrace.model import Edge, Node

__all__ = ["SELECT", "Reason", "backward_reason", "came_from"]

SELECT = "select the valid elements of all operands before this op (pred[valid], y[valid]), not its result"
DEGENERATE = (
    "perturb the matrix a little, or differentiate something that does not depend on the vectors (eigvalsh, svdvals)"
)
FAR = "keep the input further from where the derivative has no bound: clamp it, or add eps"
_GROWS = {"exp": "exp", "exp2": "exp2", "cosh": "sinh", "sinh": "cosh"}  # function: its derivative, up to a factor
_BINARY = {"div", "pow"}


class Reason(NamedTuple):
    """Reason of a derivative that is not finite, and the remedy; both empty if none is proven."""

    said: str = ""
    remedy: str = ""


def backward_reason(node: Node, edge: Edge, element: Element | None) -> Reason:
    """Return why the gradient sent along an edge is not finite at this element."""
    if element is None:
        return Reason()
    function = op_name(node.op).lower().strip("_")
    broken = _of_broken_input(element)
    if broken is not None:
        return broken
    if "equal" in element.saved:
        return Reason(
            f"{number(_number(element.saved['equal']))} comes twice in its spectrum, and its derivative divides by the "
            "difference of the two", DEGENERATE,
        )  # fmt: skip
    if function == "mul":
        return _of_product(element, edge)
    return _of_operands(function, node, element, edge)


def _of_operands(function: str, node: Node, element: Element, edge: Edge) -> Reason:
    """Return the reason that the operands at the element prove: a pole, or a slope that is too steep."""
    operands = _operands(function, node, element, edge.source_index)
    point = slope_at(function, operands, edge.source_index if function in _BINARY else 0) if operands else None
    if point is not None:
        return Reason(point.said, point.remedy)
    if operands and element.arrived is not None and edge.grad is not None:
        position = edge.source_index if function in _BINARY else 0
        beyond = slope_overflow(function, operands, position, element.arrived, edge.grad.dtype)
        if beyond:
            return Reason(beyond, FAR)
    return _of_growth(function, element, edge) if function in _GROWS else Reason()


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def _operands(function: str, node: Node, element: Element, position: int) -> list[float]:
    """Return the operands at the element; NaN for an unknown one without influence."""
    if function not in _BINARY:
        return [] if element.value is None else [_number(element.value)]
    second = "exponent" if function == "pow" else "other"
    other = element.saved.get(second, node.attributes.get(second))
    operands = [element.saved.get("self"), other if isinstance(other, (int, float, str)) else None]
    operands[position] = (
        element.value if operands[position] is None and position < len(operands) else operands[position]
    )
    return [_number(value) for value in operands] if operands[1] is not None else []


def _of_broken_input(element: Element) -> Reason | None:
    """Return the reason of an input that is not finite itself: NaN times anything is NaN."""
    if not isinstance(element.value, str):
        return None
    word = "NaN" if element.value == "nan" else element.value
    arrived = "the gradient" if element.arrived is None else number(element.arrived)
    if word == "NaN":
        return Reason(f"{arrived} times NaN is NaN", SELECT)
    return Reason(f"its derivative at {word} is not finite, or {arrived} times infinity is NaN", SELECT)


def _of_product(element: Element, edge: Edge) -> Reason:
    factor = element.saved.get("other" if edge.source_index == 0 else "self")
    if isinstance(factor, str):
        return Reason(f"the other factor is {factor}, and the derivative by the one is the other")
    if factor is None or element.arrived is None or edge.grad is None:
        return Reason()
    beyond = overflow("mul", [element.arrived, factor], edge.grad.dtype)
    return Reason(f"the gradient times the other factor, {beyond}" if beyond else "")


def _of_growth(function: str, element: Element, edge: Edge) -> Reason:
    """Return the reason of an exponential: its derivative overflows as its value does."""
    dtype = edge.grad.dtype if edge.grad is not None else ""
    beyond = overflow(_GROWS[function], [_number(element.value)], dtype) if element.value is not None else ""
    if beyond:
        return Reason(f"its derivative overflows: {beyond}", SMOOTHER[function])
    if element.saved.get("result") == "inf":
        return Reason("its result has overflowed, and its derivative is its own value", SMOOTHER[function])
    return Reason()


def came_from(element: Element | None) -> str:
    """Return the origin of a broken input, in a sentence; nothing if it is unknown."""
    if element is None or element.source is None or not isinstance(element.value, str):
        return ""
    how = "was born at" if element.came == "born" else "was written at" if element.came == "given" else "came in at"
    return f"That {how} {quoted(element.source)}"
