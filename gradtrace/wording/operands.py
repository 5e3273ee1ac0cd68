"""Names of a call's operands: the text of each in the call's own expression."""

from __future__ import annotations

import ast

__all__ = ["operand_texts"]

_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow", ast.Mod: "remainder",
    ast.MatMult: "matmul",
}  # fmt: skip
_MODULES = {"torch", "F", "nn", "functional", "linalg", "special", "fft"}
SHORT = 40


def operand_texts(text: str, function: str) -> list[str]:
    """Return the text of each operand where the expression is a call of this function, else nothing.

    >>> operand_texts("x / (y + 1)", "div"), operand_texts("h.sum()", "sum"), operand_texts("torch.log(x)", "log")
    (['x', '`y + 1`'], ['h'], ['x'])
    >>> operand_texts("net(x)", "linear")
    []
    """
    try:
        tree = ast.parse(text.strip(), mode="exec").body
    except SyntaxError:
        return []
    operands = _operands(tree[0], function) if len(tree) == 1 else []
    return [_shown(ast.unparse(node)) for node in operands]


def _operands(statement: ast.stmt, function: str) -> list[ast.expr]:
    if isinstance(statement, ast.AugAssign) and _BINARY.get(type(statement.op)) == function:
        return [statement.target, statement.value]
    node = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(node, ast.BinOp) and _BINARY.get(type(node.op)) == function:
        return [node.left, node.right]
    if not isinstance(node, ast.Call):
        return []
    called, more = node.func, [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(called, ast.Name):
        return more if called.id.strip("_") == function else []
    if not isinstance(called, ast.Attribute) or called.attr.strip("_") != function:
        return []
    inner = called.value
    last = inner.attr if isinstance(inner, ast.Attribute) else inner.id if isinstance(inner, ast.Name) else ""
    return more if last in _MODULES else [inner, *more]


def _shown(text: str) -> str:
    if len(text) > SHORT:
        return f"`{text[: SHORT - 1]}…`"
    return text if text.replace(".", "").replace("_", "").isalnum() else f"`{text}`"
