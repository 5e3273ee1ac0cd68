"""The derivation of one pass: what was computed, its derivatives as formulas, and three ways to their numbers."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import sympy as sp
from msgspec import Struct

from gradtrace.explain.notation import notation
from gradtrace.explain.operations import is_indexed
from gradtrace.explain.symbolic import MOST_CALLS, Algebra, Opaque, shortened
from gradtrace.model import BackwardPass, Comparison, Node, Source, TensorStats

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Line", "derive"]

LONGEST = 60  # characters of an expression inside a name, as in ∂z1/∂(tanh(x))
MOST_LEAVES = 40  # that get a line each
MOST_MIXED = 6  # leaves of which all pairs are differentiated
_RELATIVE = {"float64": 1e-9, "float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}


class Line(Struct, frozen=True):
    """One equation: its left side, its right side as text and in LaTeX, and what is known of its number.

    ``value`` is the right side at the recorded values; ``autograd`` what the pass computed, ``comparison``
    the finite differences; ``differs`` says that the first two are not the same number.
    """

    left: str
    right: str
    left_latex: str = ""
    right_latex: str = ""
    value: float | list[float] | None = None
    autograd: TensorStats | None = None
    comparison: Comparison | None = None
    source: Source | None = None
    differs: bool = False


def derive(graph: BackwardPass, order: int = 1) -> list[Line]:
    """Return the derivation of a pass, up to derivatives of this order; none where no calls were recorded."""
    if not graph.forward or len(graph.forward) > MOST_CALLS:
        return []
    return list(_Derivation(graph).lines(order))


class _Derivation:
    def __init__(self, graph: BackwardPass) -> None:
        self.graph = graph
        self.algebra = Algebra(graph)
        self.whole = self.algebra.output()
        outputs = [node for node in graph.nodes if node.kind == "output"]
        single = outputs[0] if len(outputs) == 1 else None
        self.output = single
        self.name = (single.name or "f") if single is not None else "f"
        self.of_leaf = {found.node: found for found in graph.comparisons if found.of == "leaf"}
        self.adjoints: dict[Any, Any] = {}
        for opaque in reversed(self.algebra.opaque):
            self.adjoints[opaque.symbol] = self._total(opaque.symbol)

    def lines(self, order: int) -> Iterator[Line]:
        """Yield the equations in the order to read them."""
        yield self._first()
        for opaque in self.algebra.opaque:
            if self.adjoints[opaque.symbol] != 0:
                given = ", ".join(self._of_whole(operand) for operand in opaque.operands)
                left, right = self._of_whole(opaque.symbol), f"{opaque.function}({given})"
                yield Line(left, right, _tex_name(left), _tex_name(right), source=self._place(opaque))
        for symbol, adjoint in self.adjoints.items():
            if adjoint != 0:
                yield self._line([symbol], adjoint)
        leaves = list(self.algebra.leaves.items())[:MOST_LEAVES]
        leaves.sort(key=lambda item: self.algebra.names[item[1].name])
        totals = {symbol: self._total(symbol) for _, symbol in leaves}
        for node_id, symbol in leaves:
            yield self._line([symbol], totals[symbol], self.graph.by_id[node_id])
        if order > 1:
            yield from self._higher(totals, order)

    def _first(self) -> Line:
        node = self.output
        edge = self.graph.edges_from[node.id][0] if node is not None else None
        made = self.graph.by_id[edge.target] if edge is not None else None
        shaped = node is not None and any(value and value.shape for value in node.values)
        return Line(
            f"Σ {self.name}ᵢ" if shaped else self.name,
            self._text(self.whole),
            rf"\sum_i {_tex_name(self.name)}_i" if shaped else _tex_name(self.name),
            self._latex(self.whole),
            self.algebra.number(self.whole),
            source=made.source if made is not None else None,
        )

    def _higher(self, totals: dict[Any, Any], order: int) -> Iterator[Line]:
        symbols = list(totals)
        for times in range(2, order + 1):
            groups = list(combinations_with_replacement(symbols, times))
            if len(symbols) > MOST_MIXED:
                groups = [(symbol,) * times for symbol in symbols]
            for group in groups:
                if self._is_plain(group):
                    found = totals[group[0]]
                    for symbol in group[1:]:
                        found = shortened(found.diff(symbol))
                    yield self._line(list(group), found)

    def _is_plain(self, group: tuple[Any, ...]) -> bool:
        """Tell whether the derivative is one expression: no letter in between, one index at most."""
        tensors = {symbol for symbol in group if is_indexed(symbol)}
        return all(adjoint == 0 for adjoint in self.adjoints.values()) and len(tensors) <= 1

    def _total(self, symbol: Any) -> Any:
        """Return the derivative of the output by a symbol, through what sympy knows and around what it doesn't."""
        terms = [self.whole.diff(symbol)]
        for opaque in self.algebra.opaque:
            for operand in opaque.operands:
                inner = operand.diff(symbol) if symbol in operand.free_symbols else 0
                if inner != 0 and self.adjoints.get(opaque.symbol, 0) != 0:
                    terms.append(self._adjoint(opaque.symbol) * self._opaque_slope(opaque.symbol, operand) * inner)
        return shortened(sp.Add(*terms))

    def _adjoint(self, symbol: Any) -> Any:
        return self.algebra.term(f"∂{self.name}/∂{self._of_whole(symbol)}", "A")

    def _opaque_slope(self, of: Any, by: Any) -> Any:
        text = self._of_whole(by)
        text = text if by.is_Symbol else f"({text if len(text) <= LONGEST else '…'})"
        return self.algebra.term(f"∂{self._of_whole(of)}/∂{text}", "B")

    def _of_whole(self, expression: Any) -> str:
        """Return the text of an expression of whole tensors, not of their elements."""
        return self._text(expression).replace("ᵢ", "")

    def _place(self, opaque: Opaque) -> Source | None:
        node = self.graph.by_id.get(opaque.node)
        return node.source if node is not None else None

    def _line(self, by: list[Any], right: Any, node: Node | None = None) -> Line:
        value = self.algebra.number(right)
        autograd = node.grads[0] if node is not None and node.grads else None
        text, left, left_latex = self._text(right), self._left(by), self._left_latex(by)
        if "ᵢ" not in text and "∂" in text:  # a product of whole matrices
            left, left_latex = left.replace("ᵢ", ""), left_latex.replace("_{i}", "")
        return Line(
            left,
            text,
            left_latex,
            self._latex(right),
            value,
            autograd,
            self.of_leaf.get(node.id) if node is not None else None,
            differs=not _agree(value, autograd),
        )

    def _left(self, by: list[Any]) -> str:
        raised = "" if len(by) == 1 else _RAISED.get(len(by), f"^{len(by)}")
        counts = {symbol: by.count(symbol) for symbol in by}
        below = "".join(f"∂{self._text(s)}{_RAISED.get(n, f'^{n}') if n > 1 else ''}" for s, n in counts.items())
        return f"∂{raised}{self.name}/{below}"

    def _left_latex(self, by: list[Any]) -> str:
        raised = "" if len(by) == 1 else f"^{len(by)}"
        counts = {symbol: by.count(symbol) for symbol in by}
        below = " ".join(rf"\partial {self._latex(s)}{f'^{n}' if n > 1 else ''}" for s, n in counts.items())
        return rf"\frac{{\partial{raised} {_tex_name(self.name)}}}{{{below}}}"

    def _text(self, expression: Any) -> str:
        return notation(str(expression), names=self.algebra.names)

    def _latex(self, expression: Any) -> str:
        names = {s: _tex_name(self.algebra.names.get(s.name, s.name)) for s in expression.free_symbols}
        return str(sp.latex(expression, symbol_names=names, full_prec=False))


_RAISED = {2: "²", 3: "³", 4: "⁴", 5: "⁵"}


def _tex_name(name: str) -> str:
    if name.startswith("∂"):
        above, _, below = name.partition("/")
        return rf"\frac{{\partial {_tex_name(above[1:])}}}{{\partial {_tex_name(below[1:])}}}"
    stem, index = (name[:-1], "_{i}") if name.endswith("ᵢ") else (name, "")
    if len(stem) == 1:
        return stem + index
    escaped = "".join(f"\\{c}" if c in "_#%&${}" else c for c in stem)
    return rf"\mathrm{{{escaped}}}{index}"


def _agree(value: float | list[float] | None, autograd: TensorStats | None) -> bool:
    """Tell whether two numbers, or all elements of two tensors, are the same but for rounding."""
    if value is None or autograd is None or autograd.values is None:
        return True
    other = _flattened(autograd.values)
    found = value if isinstance(value, list) else [value] * len(other)
    if len(found) != len(other) or any(x is None for x in other):
        return len(found) != len(other)
    size = max([1e-30, *map(abs, found), *(abs(x) for x in other)])
    close = _RELATIVE.get(autograd.dtype, 1e-3)
    return all(math.isclose(a, b, rel_tol=close, abs_tol=close * size) for a, b in zip(found, other, strict=True))


def _flattened(values: Any) -> list[Any]:
    waiting, found = [values], []
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        else:
            found.append(value)
    return found
