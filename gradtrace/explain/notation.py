"""Mathematical notation in plain text: Python's ``3*v**2`` as ``3·v²``, with letters put in and numbers folded."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["evaluated", "lowered", "notation", "put_in"]

_RAISED = dict(zip("0123456789+-nkij·", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵏⁱʲ˙", strict=True))
_BINARY: dict[type[ast.operator], tuple[int, str, Callable[[Any, Any], Any]]] = {
    ast.Add: (1, " + ", operator.add),
    ast.Sub: (1, " - ", operator.sub),
    ast.Mult: (2, "·", operator.mul),
    ast.Div: (2, "/", operator.truediv),
    ast.MatMult: (2, " @ ", operator.matmul),
    ast.Pow: (4, "", operator.pow),
}
_COMPARE: dict[type[ast.cmpop], str] = {ast.Gt: ">", ast.Lt: "<", ast.GtE: "≥", ast.LtE: "≤", ast.Eq: "="}
_NAMES = {"sqrt": "√", "sigmoid": "σ", "pi": "π"}
_LOWERED = dict(zip("0123456789+-ijklmnprst", "₀₁₂₃₄₅₆₇₈₉₊₋ᵢⱼₖₗₘₙₚᵣₛₜ", strict=True))
ATOM, NEGATIVE = 9, 3
LONGEST_WHOLE = 1e3  # below it a whole number is an exact one


def lowered(text: str) -> str:
    """Return text as an index below the line, as it is where there is no such sign.

    >>> lowered("i+2"), lowered("q")
    ('ᵢ₊₂', 'q')
    """
    return "".join(_LOWERED[c] for c in text) if all(c in _LOWERED for c in text) else text


class _Look(NamedTuple):
    """Style of notation: the sign of a product, and names by other names."""

    dot: str
    names: Mapping[str, str]


def notation(expression: str, dot: str = "·", names: Mapping[str, str] | None = None) -> str:
    """Return a Python expression as a person writes it; what is no expression is returned as it is.

    >>> notation("grad*n*x**(n - 1)", " · ")
    'grad · n · xⁿ⁻¹'
    >>> notation("2*u + v"), notation("-sin(x)/(2*sqrt(x))"), notation("(a + b)**2")
    ('2·u + v', '-sin(x)/(2·√x)', '(a + b)²')
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return expression
    return _write(tree.body, _Look(dot, {**_NAMES, **(names or {})}))[0]


def put_in(expression: str, values: Mapping[str, float | str]) -> str:
    """Return the expression with names replaced by numbers or other names, and what is whole folded.

    >>> put_in("grad*n*x**(n - 1)", {"grad": 1.0, "n": 3})
    '3 * x ** 2'
    """
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        return expression
    return ast.unparse(_Fold(values).visit(tree).body)


def evaluated(expression: str, values: Mapping[str, float]) -> float | None:
    """Return the number that the expression is at these values, or None where it can't be told.

    >>> evaluated("n*x**(n - 1)", {"n": 3, "x": 4.0})
    48.0
    """
    try:
        tree = ast.parse(expression, mode="eval")
        result = _number_of(tree.body, values)
    except (SyntaxError, KeyError, ArithmeticError, ValueError, TypeError):
        return None
    return float(result) if isinstance(result, (int, float)) else None


class _Fold(ast.NodeTransformer):
    """Puts values in for names, multiplies by no 1 and computes with whole numbers."""

    def __init__(self, values: Mapping[str, float | str]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a name by its value."""
        value = self._values.get(node.id)
        if value is None:
            return node
        return _constant(value) if isinstance(value, (int, float)) else ast.parse(value, mode="eval").body

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Fold what is trivial."""
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Mult) and _is(left, 1):
            return right  # type: ignore[no-any-return]
        if isinstance(node.op, ast.Mult) and _is(left, -1):
            return ast.UnaryOp(ast.USub(), right)
        if isinstance(node.op, (ast.Mult, ast.Div, ast.Pow)) and _is(right, 1):
            return left  # type: ignore[no-any-return]
        if isinstance(node.op, (ast.Add, ast.Sub)) and _is_whole(left) and _is_whole(right):
            return _constant(_BINARY[type(node.op)][2](left.value, right.value))
        return ast.BinOp(left, node.op, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        """Fold the negative of a number."""
        inner = self.visit(node.operand)
        if isinstance(node.op, ast.USub) and isinstance(inner, ast.Constant) and isinstance(inner.value, (int, float)):
            return _constant(-inner.value)
        return ast.UnaryOp(node.op, inner)


def _constant(value: float) -> ast.Constant:
    whole = float(value).is_integer() and abs(value) < LONGEST_WHOLE
    return ast.Constant(int(value) if whole else value)


def _is(node: ast.expr, value: int) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


def _is_whole(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def _write(node: ast.expr, look: _Look) -> tuple[str, int]:
    """Return the text of an expression and how tightly it binds."""
    match node:
        case ast.Constant():
            written = _literal(node.value)
        case ast.BinOp(op=ast.Pow()):
            written = _power(node, look)
        case ast.BinOp():
            written = _infix(node, look)
        case ast.UnaryOp(op=ast.USub()):
            written = f"-{_within(node.operand, NEGATIVE, look)}", NEGATIVE
        case ast.Call():
            written = _call(node, look)
        case ast.Compare():
            right = _within(node.comparators[0], 1, look)
            written = f"[{_within(node.left, 1, look)} {_COMPARE.get(type(node.ops[0]), '?')} {right}]", ATOM
        case ast.Attribute(attr="T"):
            written = f"{_within(node.value, ATOM, look)}ᵀ", ATOM
        case ast.Name():
            written = look.names.get(node.id, node.id), ATOM
        case _:
            written = ast.unparse(node), ATOM
    return written


def _literal(value: object) -> tuple[str, int]:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value), ATOM
    text = number(float(value)) if isinstance(value, float) or abs(value) < LONGEST_WHOLE else str(value)
    return text, ATOM if value >= 0 else NEGATIVE


def _infix(node: ast.BinOp, look: _Look) -> tuple[str, int]:
    level, sign, _ = _BINARY.get(type(node.op), (0, " ? ", None))
    left = _within(node.left, level, look)
    if isinstance(node.op, ast.Mult) and _ends_in_a_sum(node.left):
        left = _before(node.left, look)
    right = _within(node.right, level + (isinstance(node.op, (ast.Sub, ast.Div))), look)
    if right.startswith("-"):
        right = f"({right})"
    return f"{left}{look.dot if sign == '·' else sign}{right}", level


def _ends_in_a_sum(node: ast.expr) -> bool:
    last = node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) else node
    return isinstance(last, ast.Call) and isinstance(last.func, ast.Name) and last.func.id in _SUMS


def _before(node: ast.expr, look: _Look) -> str:
    """Return factors of which the last is a sum, in brackets, for another one follows."""
    if not isinstance(node, ast.BinOp):
        return f"({_write(node, look)[0]})"
    before = _before(node.left, look) if _ends_in_a_sum(node.left) else _within(node.left, 2, look)
    return f"{before}{look.dot}({_write(node.right, look)[0]})"


def _power(node: ast.BinOp, look: _Look) -> tuple[str, int]:
    base, exponent = _within(node.left, 5, look), _write(node.right, look._replace(dot="·"))[0].replace(" ", "")
    if base.startswith("√"):
        base = f"({base})"
    if all(c in _RAISED for c in exponent):
        return f"{base}{''.join(_RAISED[c] for c in exponent)}", 4
    return f"{base}^{exponent if exponent.isalnum() else f'({exponent})'}", 4


def _call(node: ast.Call, look: _Look) -> tuple[str, int]:
    name = _write(node.func, look)[0]
    if name in _WRITTEN:
        return _WRITTEN[name](node.args, look)
    inner = ", ".join(_write(argument, look)[0] for argument in node.args)
    if name == "√" and node.args and _write(node.args[0], look)[1] == ATOM:
        return f"√{inner}", 5
    if name in {"Abs", "abs"}:
        return f"|{inner}|", ATOM
    return f"{name}({inner})", ATOM


def _over(sign: str) -> Callable[[list[ast.expr], _Look], tuple[str, int]]:
    """Return how a sum or a product over indices is written: Σᵢ before its body."""

    def write(args: list[ast.expr], look: _Look) -> tuple[str, int]:
        inner, level = _write(args[0], look)
        letters = [_write(index, look)[0] for index in args[1:]]
        below = lowered(letters[0]) if len(letters) == 1 else f"_{{{'≠'.join(letters)}}}" if letters else ""
        return f"{sign}{below} {inner if level > 1 and not inner.startswith('-') else f'({inner})'}", 2

    return write


def _condition(sign: str) -> Callable[[list[ast.expr], _Look], tuple[str, int]]:
    def write(args: list[ast.expr], look: _Look) -> tuple[str, int]:
        right = _write(args[1], look)[0] if len(args) > 1 else "0"
        return f"[{_write(args[0], look)[0]} {sign} {right}]", ATOM

    return write


_SIGNS = {"Total": "Σ", "Summed": "Σ", "Multiplied": "∏", "Rest": "∏", "Maximum": "max", "Minimum": "min"}
_SUMS = set(_SIGNS)


def _highest(args: list[ast.expr], look: _Look) -> tuple[str, int]:
    here, body, letters = (_write(arg, look)[0] for arg in args)
    return f"[{here} = max{lowered(letters)} {body}]", ATOM


def _if(args: list[ast.expr], look: _Look) -> tuple[str, int]:
    body, condition = (_write(arg, look)[0] for arg in args)
    return f"({body} if {condition})", ATOM


_WRITTEN = {
    "Highest": _highest,
    "If": _if,
    **{name: _over(sign) for name, sign in _SIGNS.items()},
    **{
        name: _condition(sign)
        for name, sign in (("Same", "="), ("NotLess", "≥"), ("NotMore", "≤"), ("step", ">"), ("above", "≥"))
    },
}


def _within(node: ast.expr, level: int, look: _Look) -> str:
    text, own = _write(node, look)
    return f"({text})" if own < level else text


_FUNCTIONS: dict[str, Callable[[float], float]] = {
    **{f.__name__: f for f in (math.sin, math.cos, math.tan, math.exp, math.log, math.sqrt, math.erf)},
    **{f.__name__: f for f in (math.tanh, math.sinh, math.cosh)},
    "abs": abs,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Gt: operator.gt, ast.Lt: operator.lt, ast.GtE: operator.ge, ast.LtE: operator.le, ast.Eq: operator.eq,
}  # fmt: skip


def _number_of(node: ast.expr, values: Mapping[str, float]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return math.pi if node.id == "pi" else values[node.id]
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)][2](_number_of(node.left, values), _number_of(node.right, values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_number_of(node.operand, values)
    if isinstance(node, ast.Compare):
        compare = _COMPARED[type(node.ops[0])]
        return float(compare(_number_of(node.left, values), _number_of(node.comparators[0], values)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _FUNCTIONS[node.func.id](_number_of(node.args[0], values))
    raise ValueError(ast.dump(node))
