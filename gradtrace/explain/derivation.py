"""The derivation of one pass: what was computed, its derivatives as formulas, and three ways to their numbers."""

from __future__ import annotations

import ast
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import sympy as sp
from msgspec import Struct

from gradtrace.explain.differentiate import NoFormulaError, derivative, parts, shortened
from gradtrace.explain.indices import At, Index, axes, over_all
from gradtrace.explain.symbolic import MOST_CALLS, Algebra, Letter
from gradtrace.explain.values import Number, Values
from gradtrace.explain.writing import Writer, tex_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.explain.shapes import Value
    from gradtrace.model import BackwardPass, Comparison, Node, Source, TensorStats

__all__ = ["Equation", "derive"]

LONGEST = 60  # characters of an expression inside a name, as in ∂z1/∂(tanh(x))
MOST_LEAVES = 40  # that get a line each
MOST_MIXED = 6  # leaves of which all pairs are differentiated


class Equation(Struct, frozen=True):
    """An equation: its left side, its right side as text and in LaTeX, and what is known of its number.

    ``number`` is the right side at the recorded values, and how far it is from ``autograd``, what the pass
    computed; ``comparison`` are the finite differences; ``reason`` is why a call is not written as a formula.
    """

    left: str
    right: str
    left_latex: str = ""
    right_latex: str = ""
    number: Number | None = None
    autograd: TensorStats | None = None
    comparison: Comparison | None = None
    source: Source | None = None
    reason: str = ""

    @property
    def value(self) -> Any:
        """The right side's number, its nested elements where they are few, None where it is not known."""
        return self.number.value if self.number is not None else None

    @property
    def differs(self) -> bool:
        """Tell whether the formula's number is not autograd's."""
        return self.number is not None and self.number.agrees is False


def derive(graph: BackwardPass, order: int = 1) -> list[Equation]:
    """Return the derivation of a pass, up to derivatives of this order; none where no calls were recorded."""
    if not graph.forward or len(graph.forward) > MOST_CALLS:
        return []
    return list(_Derivation(graph).lines(order))


class _Derivation:
    def __init__(self, graph: BackwardPass) -> None:
        self.graph = graph
        self.algebra = Algebra(graph)
        self.values = Values(graph, self.algebra)
        self.write = Writer(self.algebra.names, self.algebra.tex)
        self.whole = self.algebra.output()
        outputs = [node for node in graph.nodes if node.kind == "output"]
        self.output = outputs[0] if len(outputs) == 1 else None
        self.name = (self.output.name or "f") if self.output is not None else "f"
        self.of_leaf = {comparison.node: comparison for comparison in graph.comparisons if comparison.of == "leaf"}
        for letter in self.algebra.letters:
            if letter.definition is not None:
                self.values.learn(letter.symbol, letter.definition, axes(letter.shape))
        self.pieces = [self.whole]  # whose derivatives, added up, are that of the output
        self.adjoints = {letter.symbol: self._adjoint(letter) for letter in reversed(self.algebra.letters)}

    def lines(self, order: int) -> Iterator[Equation]:
        """Yield the equations in the order to read them."""
        yield from self._first()
        letters = [letter for letter in self.algebra.letters if self.adjoints[letter.symbol] != 0]
        yield from map(self._definition, letters)
        for letter in reversed(letters):
            node = self.graph.by_id[letter.node]
            yield self._line(letter.symbol, letter.shape, self.adjoints[letter.symbol], (node, letter.output))
        leaves = sorted(self.algebra.leaves.items(), key=lambda item: self.algebra.names[_base(item[1]).name])
        for node_id, leaf in leaves[:MOST_LEAVES]:
            if not self._was_asked(self.graph.by_id[node_id]):
                continue
            total = self._total(_base(leaf), leaf.shape)
            yield self._line(_base(leaf), leaf.shape, total, (self.graph.by_id[node_id], 0))
        if order > 1:
            yield from self._higher([leaf for _, leaf in leaves[:MOST_LEAVES]], order)

    def _was_asked(self, leaf: Node) -> bool:
        """Tell whether a gradient came to a leaf; autograd.grad() asks for some only."""
        return self.graph.kind != "grad" or any(edge.grad for edge in self.graph.edges_into[leaf.id])

    def _first(self) -> Iterator[Equation]:
        """Yield what was computed: as the script wrote it, and as a formula where that tells more."""
        node = self.output
        edges = self.graph.edges_from[node.id] if node is not None else []
        made = self.graph.by_id[edges[0].target] if edges else None
        plain = made is not None and made.origin is None  # else its code is that of what was differentiated
        source = (made.library or made.source) if made is not None and plain else None
        shaped = node is not None and any(value and value.shape for value in node.values)
        left, tex = (f"Σ {self.name}", rf"\sum {tex_name(self.name)}") if shaped else (self.name, tex_name(self.name))
        held = node.values[0] if node is not None and node.values and not shaped else None
        number = self.values.number(self.whole, (), held)
        text = self.write.text(self.whole)
        code = " ".join(source.text.split()) if source is not None and not shaped else ""
        if code and self._names_in(code) == self._names_of(self.whole):
            text = code
        elif code and self._names_in(code) and code not in {text, self.name}:
            yield Equation(left, code, source=made.source if made is not None else None)
            source = None
        place = made.source if made is not None and source is not None else None
        yield Equation(left, text, tex, self.write.latex(self.whole), number, source=place)

    def _names_in(self, code: str) -> set[str]:
        """Return the names of tensors in a piece of code; none where it calls something that is no torch function."""
        try:
            tree = ast.parse(code, mode="eval")
        except SyntaxError:
            return set()
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        return {each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and id(each) not in called} - {"torch"}

    def _names_of(self, expression: Any) -> set[str]:
        symbols = {symbol for symbol in expression.free_symbols if not isinstance(symbol, Index)}
        return {self.algebra.names[symbol.name] for symbol in symbols}

    def _definition(self, letter: Letter) -> Equation:
        source = self.graph.by_id[letter.node].source
        name = self.algebra.names[letter.symbol.name]
        if letter.definition is None:
            text = f"{letter.function}({', '.join(self._of_whole(each)[0] for each in letter.operands)})"
            given = ", ".join(self._of_whole(each)[1] for each in letter.operands)
            reason = f"no formula of {letter.function}: {letter.reason}" if letter.reason else ""
            tex = rf"{tex_name(letter.function)}({given})"
            return Equation(name, text, tex_name(name), tex, source=source, reason=reason)
        indices = _free(letter.shape)
        right = shortened(letter.definition.xreplace(dict(zip(axes(letter.shape), indices, strict=True))))
        left, left_tex = self.write.element(letter.symbol, indices)
        held = self.graph.by_id[letter.node].values[letter.output : letter.output + 1]
        number = self.values.number(right, indices, held[0] if held else None)
        return Equation(left, self.write.text(right, indices), left_tex, self.write.latex(right, indices), number,
                    source=source)  # fmt: skip

    def _adjoint(self, letter: Letter) -> Any:
        """Return the derivative of the output by a letter, and let what the letter is made of see it."""
        total = self._total(letter.symbol, letter.shape)
        if total != 0:
            self.pieces += self._through(letter, total)
        return total

    def _through(self, letter: Letter, adjoint: Any) -> Iterator[Any]:
        name, tex = f"∂{self.name}/∂{self.algebra.names[letter.symbol.name]}", self._tex_slope(self.name, letter)
        if letter.definition is not None:
            symbol = self.algebra.term(name, tex, "A")
            self.values.learn(symbol, adjoint, _free(letter.shape))
            yield over_all(_element(symbol, letter.shape) * letter.definition, letter.shape)
            return
        for operand in letter.operands:
            text, inner = self._of_whole(operand)
            plain = operand.expression.is_Symbol or isinstance(operand.expression, At)
            text = text if plain else f"({text if len(text) <= LONGEST else '…'})"
            below = rf"\frac{{\partial {tex_name(self.algebra.names[letter.symbol.name])}}}{{\partial {inner}}}"
            shown = f"{name}·∂{self.algebra.names[letter.symbol.name]}/∂{text}"
            symbol = self.algebra.term(shown, rf"{tex} \cdot {below}", "B")
            yield over_all(_element(symbol, operand.shape) * operand.expression, operand.shape)

    def _tex_slope(self, above: str, letter: Letter) -> str:
        return rf"\frac{{\partial {tex_name(above)}}}{{\partial {tex_name(self.algebra.names[letter.symbol.name])}}}"

    def _total(self, symbol: Any, shape: tuple[int, ...]) -> Any:
        """Return the derivative of the output by a tensor, through what is known and around what isn't."""
        targets = _free(shape)
        terms = [derivative(piece, symbol, targets) for piece in self.pieces if piece.has(symbol)]
        return shortened(sp.Add(*terms))

    def _of_whole(self, value: Value) -> tuple[str, str]:
        """Return a tensor as text and in LaTeX: its name, or what each element is."""
        if isinstance(value.expression, At) and value.expression.args[1:] == tuple(axes(value.shape)):
            name = _base(value).name
            return self.algebra.names[name], self.algebra.tex.get(name) or tex_name(self.algebra.names[name])
        indices = _free(value.shape)
        element = value.expression.xreplace(dict(zip(axes(value.shape), indices, strict=True)))
        return self.write.text(element, indices), self.write.latex(element, indices)

    def _line(self, by: Any, shape: tuple[int, ...], right: Any, of: tuple[Node, int]) -> Equation:
        node, output = of
        indices = _free(shape)
        autograd = node.grads[output] if output < len(node.grads) else None
        shown, tex = self.write.element(by, indices)
        name, name_tex = self.algebra.names[by.name], self.write.element(by, ())[1]
        text, latex = self.write.text(right, indices), self.write.latex(right, indices)
        number = self.values.gradient(right, indices, (node, output))
        whole = {part: part.args[0] for part in parts(right) if isinstance(part, At) and part.args[1:] == (*indices,)}
        if indices and all(part in whole and whole[part].name.startswith("B") for part in parts(right)):
            shown, tex, right = name, name_tex, right.xreplace(whole)  # products of whole matrices
            text, latex = self.write.text(right), self.write.latex(right)
        return Equation(
            f"∂{self.name}/∂{shown}",
            text,
            rf"\frac{{\partial {tex_name(self.name)}}}{{\partial {tex}}}",
            latex,
            number,
            autograd,
            self.of_leaf.get(node.id),
        )

    def _higher(self, leaves: Sequence[Value], order: int) -> Iterator[Equation]:
        for times in range(2, order + 1):
            groups = list(combinations_with_replacement(leaves, times))
            if len(leaves) > MOST_MIXED:
                groups = [(leaf,) * times for leaf in leaves]
            for group in groups:
                yield self._mixed(group)

    def _mixed(self, group: tuple[Value, ...]) -> Equation:
        """Return a derivative by several leaves, each with indices of its own."""
        every: list[Any] = []
        below = []
        for leaf in group:
            indices = _free(leaf.shape, len(every))
            every += indices
            below.append((leaf, indices))
        left, left_tex = self._left(below, every)
        try:
            mixed = self.algebra.expanded(self.whole)
            for leaf, indices in below:
                mixed = shortened(derivative(mixed, _base(leaf), indices))
        except NoFormulaError as error:
            return Equation(left, f"not written as a formula: {error}")
        number = self.values.number(mixed, every, None)
        return Equation(left, self.write.text(mixed, every), left_tex, self.write.latex(mixed, every), number)

    def _left(self, below: list[tuple[Value, list[Any]]], every: list[Any]) -> tuple[str, str]:
        times = len(below)
        shown = [self._named(leaf, indices, every) for leaf, indices in below]
        counts = {each: shown.count(each) for each in shown}
        text = "".join(f"∂{name}{_raised(n)}" for (name, _), n in counts.items())
        tex = " ".join(rf"\partial {name}{f'^{n}' if n > 1 else ''}" for (_, name), n in counts.items())
        return f"∂{_raised(times)}{self.name}/{text}", rf"\frac{{\partial^{times} {tex_name(self.name)}}}{{{tex}}}"

    def _named(self, leaf: Value, indices: list[Any], every: list[Any]) -> tuple[str, str]:
        return self.write.element(_base(leaf), indices, every)


_RAISED = {1: "", 2: "²", 3: "³", 4: "⁴", 5: "⁵"}


def _raised(times: int) -> str:
    return _RAISED.get(times, f"^{times}")


def _base(value: Value) -> Any:
    return value.expression.args[0] if isinstance(value.expression, At) else value.expression


def _free(shape: tuple[int, ...], first: int = 0) -> list[Any]:
    """Return an index for each axis of a tensor, for an element of it that is asked for."""
    return [Index(f"f{first + number}", index.size) for number, index in enumerate(axes(shape))]


def _element(symbol: Any, shape: tuple[int, ...]) -> Any:
    return At(symbol, *axes(shape)) if axes(shape) else symbol
