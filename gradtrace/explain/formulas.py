"""Formulas of backward functions: PyTorch's own, the common ones in readable notation."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gradtrace.explain.notation import notation, put_in
from gradtrace.explain.readable import LETTERS, READABLE, letters, names_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradtrace.model import BackwardPass, Node

__all__ = ["Formula", "Table", "edge_formulas", "formula_line", "letters_of", "pinned"]


class Formula(Struct, frozen=True):
    """The formula by which a gradient leaves a node to one of its inputs.

    ``expression`` is Python in the names of derivatives.yaml where ``readable``, else PyTorch's own C++.
    """

    input: str
    expression: str
    readable: bool = False

    @property
    def text(self) -> str:
        """The formula to show: ``grad · n · xⁿ⁻¹``."""
        return notation(put_in(self.expression, LETTERS), " · ") if self.readable else self.expression

    def local(self) -> str:
        """Return the expression without the gradient that arrived, or nothing where that is no factor of it."""
        whole = any(sign in self.expression for sign in ("@", ".T", "Total(", "where(", "outer("))
        if not self.readable or whole or self.expression == "grad":
            return ""
        local = put_in(self.expression, {"grad": 1})
        return "" if "grad" in local else local


class Table:
    """The formulas of one torch version, by backward function."""

    def __init__(self, formulas: Mapping[str, Any]) -> None:
        self.torch = str(formulas["torch"])
        self._functions: dict[str, dict[str, Any]] = formulas["functions"]

    def __contains__(self, op: str) -> bool:
        """Tell whether PyTorch's table has this backward function; a custom one it has not."""
        return op in self._functions

    def __len__(self) -> int:
        """Return the number of backward functions."""
        return len(self._functions)

    def formula(self, op: str, index: int) -> Formula | None:
        """Return how the gradient leaves by grad_input ``index``, None for a function that is not PyTorch's."""
        entry = self._functions.get(op)
        if entry is None:
            return None
        names = list(entry["inputs"])
        name = names[min(index, len(names) - 1)] if names else ""
        readable = READABLE.get(op, {}).get(name)
        return Formula(name, readable or entry["inputs"].get(name, ""), readable is not None)

    def formulas(self, op: str) -> list[Formula]:
        """Return the formulas of all inputs of a backward function."""
        entry = self._functions.get(op, {"inputs": {}})
        return [formula for index in range(len(entry["inputs"])) if (formula := self.formula(op, index))]

    def arguments(self, op: str) -> tuple[str, ...]:
        """Return the names of the forward's arguments, in their order."""
        return tuple(self._functions.get(op, {}).get("arguments", ()))


@cache
def pinned() -> Table:
    """Return the table of the torch that gradtrace was built for."""
    return Table(json.loads((Path(__file__).parent / "derivatives.json").read_text(encoding="utf-8")))


def formula_line(graph: BackwardPass, node: Node, table: Table) -> str:
    """Return one line for a picture: each different formula of the gradients that left a node."""
    return ", ".join(dict.fromkeys(filter(None, edge_formulas(graph, node, table))))


def edge_formulas(graph: BackwardPass, node: Node, table: Table, rest: dict[str, str] | None = None) -> list[str]:
    """Return the formula of what a node sent along each of its edges; empty where PyTorch's table has none.

    Attributes and the names of what it was given are put in: ``grad · 3 · v²``. ``rest`` are the letters for what
    has no name, those of ``letters_of`` the pass.
    """
    given = {name: value for name, value in node.attributes.items() if type(value) in {int, float}}
    values: dict[str, Any] = {"alpha": 1, "beta": 1, **given}
    ways = [(edge, table.formula(node.op, edge.source_index)) for edge in graph.edges_from[node.id]]
    for edge, formula in ways:
        name = graph.by_id[edge.target].name
        if formula is not None and name.isidentifier():
            values[formula.input] = name
    rest = letters_of(graph) if rest is None else rest
    return ["" if formula is None else _written(formula, values, rest) for _, formula in ways]


def letters_of(graph: BackwardPass) -> dict[str, str]:
    """Return the letters for what has no name in a pass: none that is a name in it."""
    return letters(names_in(graph))


def _written(formula: Formula, values: dict[str, Any], rest: dict[str, str]) -> str:
    if not formula.readable:
        return formula.expression
    return notation(put_in(formula.expression, {**rest, **values}), " · ")
