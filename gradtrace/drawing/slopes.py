"""The local derivative on an edge of scalars: ``48 = 1 · 3·4²``, what arrived times the slope of the op.

A slope is written as a formula where the op is known, and its inputs are, and the formula gives what autograd
sent; else as the number that autograd multiplied with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradtrace.ops import op_name
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import BackwardPass, Edge, Node, TensorStats

    Slope = tuple[str, float]  # as a formula in numbers, and what it comes to

__all__ = ["slope"]

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
EXACT = 1e-4  # relative, of float32 and of four digits


def slope(edge: Edge, graph: BackwardPass) -> str:
    """Return what flowed along an edge as a product, or nothing where that can't be told or is as it arrived."""
    node = graph.by_id[edge.source]
    arrived, sent = _scalar(node.grads[0] if node.grads else None), _scalar(edge.grad)
    if node.kind != "function" or len(node.grads) != 1 or not arrived or sent is None:
        return ""
    formula = _formula(edge, node, graph)
    if math.isclose(sent, arrived, rel_tol=EXACT):
        return ""  # what an addition passes on is not written as times 1
    if formula is None or not math.isclose(formula[1], sent / arrived, rel_tol=EXACT, abs_tol=1e-12):
        formula = _signed(sent / arrived)
    return f"{number(sent)} = {number(arrived)} · {formula[0]}"


def _formula(edge: Edge, node: Node, graph: BackwardPass) -> Slope | None:
    """Return the slope of an op by the input that an edge leads to."""
    made = _FORMULAS.get(op_name(node.op))
    inputs = {each.source_index: _value(each, graph) for each in graph.edges_from[node.id]}
    x, y = inputs[edge.source_index], _scalar(node.values[0] if node.values else None)
    try:
        return made(edge.source_index, x, y, (inputs, node)) if made else None
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None  # an input that is not known, or outside of where the formula holds


def _value(edge: Edge, graph: BackwardPass) -> float | None:
    values = graph.by_id[edge.target].values
    return _scalar(values[edge.target_index]) if edge.target_index < len(values) else None


def _scalar(stats: TensorStats | None) -> float | None:
    value = stats.values if stats is not None and not stats.shape else None
    return float(value) if isinstance(value, (int, float)) else None


def _signed(value: float) -> Slope:
    return (f"({number(value)})" if value < 0 else number(value)), value


def _power(_: int, x: float, __: float, rest: tuple[dict[int, float | None], Node]) -> Slope:
    exponent = rest[1].attributes.get("exponent")
    if not isinstance(exponent, (int, float)) or exponent in {0, 1}:
        raise ValueError
    base = _signed(x)[0]
    power = number(exponent - 1)
    raised = f"{base}{power.translate(SUPERSCRIPTS)}" if float(exponent).is_integer() else f"{base}^({power})"
    return f"{_signed(exponent)[0]}·{base if power == '1' else raised}", exponent * x ** (exponent - 1)


def _product(at: int, _: float, __: float, rest: tuple[dict[int, float | None], Node]) -> Slope:
    other = rest[0][1 - at] if len(rest[0]) == 2 else None  # noqa: PLR2004
    if other is None:
        raise ValueError
    return _signed(other)


def _quotient(at: int, x: float, _: float, rest: tuple[dict[int, float | None], Node]) -> Slope:
    other = rest[0].get(1 - at)
    if other is None:
        raise ValueError
    if at == 0:
        return f"1/{_signed(other)[0]}", 1 / other
    ratio = f"{number(-other)}/{_signed(x)[0]}²"
    return f"({ratio})" if other > 0 else ratio, -other / x**2


def _ones(at: int, sign: float) -> Slope:
    return _signed(sign if at else 1.0)


_FORMULAS: dict[str, Callable[..., Slope]] = {
    "Add": lambda at, *_: _ones(at, 1.0),
    "Sub": lambda at, *_: _ones(at, -1.0),
    "Neg": lambda *_: _signed(-1.0),
    "Mul": _product,
    "Div": _quotient,
    "Pow": _power,
    "Exp": lambda _, x, *__: (
        f"e{number(x).translate(SUPERSCRIPTS)}" if x == int(x) else f"exp({number(x)})",
        math.exp(x),
    ),
    "Log": lambda _, x, *__: (f"1/{_signed(x)[0]}", 1 / x),
    "Sin": lambda _, x, *__: (f"cos({number(x)})", math.cos(x)),
    "Cos": lambda _, x, *__: (f"(-sin({number(x)}))", -math.sin(x)),
    "Sqrt": lambda _, x, *__: (f"1/(2·√{_signed(x)[0]})", 1 / (2 * math.sqrt(x))),
    "Tanh": lambda _, __, y, ___: (f"(1 - {_signed(y)[0]}²)", 1 - y * y),
    "Sigmoid": lambda _, __, y, ___: (f"{number(y)}·(1 - {number(y)})", y * (1 - y)),
}
