"""The expression that a script computed, rebuilt from its recorded calls, differentiated and evaluated.

Tensors are one symbol per element, with the index i. What sympy has no function for stays a letter of its
own, and the chain rule is told around it.
"""

from __future__ import annotations

import keyword
import math
import re
from fractions import Fraction
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

import sympy as sp

from gradtrace.explain.operations import ELEMENTWISE, NUMERIC, REDUCING, SAME, Total, is_indexed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, ForwardCall, Node, Operand, TensorStats

__all__ = ["Algebra", "Opaque", "Value"]

MOST_CALLS = 400  # in one pass; above, nobody reads the expression
LARGEST = 60  # operations in one expression; a larger one gets a letter
_SIMPLIFIED = 40  # operations; what is larger is left as it comes, for simplifying takes its time


class Value(NamedTuple):
    """What a call computed: its expression (for each element), and its shape."""

    expression: Any
    shape: tuple[int, ...]


class Opaque(NamedTuple):
    """A letter for what a call made: its symbol, the function, and the expressions it was given."""

    symbol: Any
    function: str
    operands: tuple[Any, ...]
    node: str


class Algebra:
    """The expressions of one pass, from its leaves to its outputs.

    ``names`` tells how each symbol is written, ``values`` what it held (flat, where that is known).
    """

    def __init__(self, graph: BackwardPass) -> None:
        self.graph = graph
        self.names: dict[str, str] = {}
        self.values: dict[Any, list[float] | None] = {}
        self.opaque: list[Opaque] = []
        self.leaves: dict[str, Any] = {}
        self._stems = set(_TAKEN)
        self._made: dict[tuple[str, int], Value] = {}
        self._constants: dict[int, Value] = {}
        for call in graph.forward:
            self._add(call)

    def output(self) -> Any:
        """Return what was differentiated: the output, or the sum of the outputs, weighted with their seeds."""
        terms = []
        for node in self.graph.nodes:
            if node.kind == "output":
                edge = self.graph.edges_from[node.id][0]
                value = self._of_node(edge.target, edge.target_index)
                terms.append(self._seeded(value, node))
        return sp.Add(*terms)

    def _seeded(self, value: Value, node: Node) -> Any:
        seed = node.grads[0] if node.grads else None
        ones = seed is not None and seed.min == seed.max == 1
        weight = sp.Integer(1) if ones or seed is None else self._symbol("seed", seed.shape, seed)
        size = math.prod(value.shape)
        return Total(value.expression * weight, size) if value.shape else value.expression * weight

    def derivative(self, of: Any, by: Any) -> Any:
        """Return the derivative of an expression by a symbol, in a short form."""
        return shortened(of.diff(by))

    def number(self, expression: Any) -> float | list[float] | None:
        """Return what an expression is at the recorded values: one number, or one for each element."""
        symbols = sorted(expression.free_symbols, key=str)
        given = [self.values.get(symbol) for symbol in symbols]
        if any(values is None for values in given):
            return None
        import numpy as np  # noqa: PLC0415 - only where values are put in

        arrays = [np.array(v) if is_indexed(s) else np.float64(v[0]) for s, v in zip(symbols, given, strict=True) if v]
        function = sp.lambdify(symbols, expression, modules=[NUMERIC(), "numpy"])
        with np.errstate(all="ignore"):
            found = np.asarray(function(*arrays), dtype=float)
        if not np.isfinite(found).all():
            return None
        return [float(x) for x in found.reshape(-1)] if found.shape else float(found)

    def _add(self, call: ForwardCall) -> None:
        named = not call.nodes and any(result.name for result in call.results)
        values = [] if named else self._computed(call)
        if values and all(value is not None and value.expression.count_ops() <= LARGEST for value in values):
            results = [value for value in values if value is not None]
        else:
            results = [self._letter(call, result) for result in call.results]
        for result, found in zip(call.results, results, strict=False):
            if result.node:
                self._made[result.node, result.output] = found
            elif result.key:
                self._constants[result.key] = found

    def _computed(self, call: ForwardCall) -> list[Value | None]:
        """Return what a call computed as expressions, None where sympy can't say."""
        if call.function == "torch.autograd.grad":
            return [self._differentiated(call, by) for by in call.args[1:]]
        return [self._one(call)] if len(call.results) == 1 else []

    def _one(self, call: ForwardCall) -> Value | None:
        name = _plain_name(call.function)
        if name in SAME and call.args:
            return self._viewed(call)
        if name in REDUCING and len(call.args) == 1 and not _set(call.kwargs):
            inner = self._tensor(call.args[0])
            size = math.prod(inner.shape)
            return Value(REDUCING[name](inner.expression, size) if inner.shape else inner.expression, ())
        if name == "mse_loss":
            return self._mse(call)
        return self._elementwise(ELEMENTWISE[name], call) if name in ELEMENTWISE else None

    def _differentiated(self, call: ForwardCall, operand: Operand) -> Value | None:
        of, by = self._tensor(call.args[0]), self._tensor(operand)
        total = Total(of.expression, math.prod(of.shape)) if of.shape else of.expression
        plain = by.expression.is_Symbol and not any(o.symbol in total.free_symbols for o in self.opaque)
        return Value(shortened(total.diff(by.expression)), by.shape) if plain else None

    def _viewed(self, call: ForwardCall) -> Value | None:
        inner, stats = self._tensor(call.args[0]), self._stats(call.results[0])
        if stats is None or math.prod(stats.shape) != math.prod(inner.shape):
            return None
        if inner.shape and not stats.shape:
            return None
        return Value(inner.expression, stats.shape) if bool(inner.shape) == bool(stats.shape) else None

    def _mse(self, call: ForwardCall) -> Value | None:
        extra = {name: operand.value for name, operand in call.kwargs.items() if operand.value is not None}
        if len(call.args) < 2 or extra.get("reduction", "mean") != "mean" or len(call.args) > 2:  # noqa: PLR2004
            return None
        a, b = (self._tensor(operand) for operand in call.args)
        if a.shape != b.shape:
            return None
        squares = (a.expression - b.expression) ** 2
        return Value(Total(squares, math.prod(a.shape)) / math.prod(a.shape) if a.shape else squares, ())

    def _elementwise(self, function: Any, call: ForwardCall) -> Value | None:
        values = [self._operand(operand) for operand in call.args]
        extra = {name: self._operand(operand) for name, operand in call.kwargs.items() if _given(operand)}
        if any(value is None for value in (*values, *extra.values())):
            return None
        found = [value for value in values if value is not None]
        shapes = {value.shape for value in found if value.shape}
        if len(shapes) > 1:
            return None  # a broadcast with an index of its own
        more = {name: value.expression for name, value in extra.items() if value is not None}
        try:
            expression = function(*(value.expression for value in found), **more)
        except (TypeError, ValueError):
            return None  # other arguments than the plain ones
        return Value(sp.sympify(expression), next(iter(shapes), ()))

    def _operand(self, operand: Operand) -> Value | None:
        if operand.items is not None:
            return None
        if operand.node or operand.key:
            return self._tensor(operand)
        return Value(_constant(operand.value), ()) if isinstance(operand.value, (int, float)) else None

    def _tensor(self, operand: Operand) -> Value:
        if operand.node:
            return self._of_node(operand.node, operand.output)
        known = self._constants.get(operand.key)
        if known is None:
            known = self._constants[operand.key] = self._outside(operand)
        return known

    def _outside(self, operand: Operand) -> Value:
        stats = operand.tensor
        if stats is None:
            return Value(self._symbol(operand.name or "c", (), None), ())
        if not stats.shape and not operand.name and isinstance(stats.values, (int, float)):
            return Value(_constant(stats.values), ())
        return Value(self._symbol(operand.name or "c", stats.shape, stats), stats.shape)

    def _of_node(self, node_id: str, output: int) -> Value:
        known = self._made.get((node_id, output))
        if known is None:
            node = self.graph.by_id[node_id]
            stats = node.values[output] if output < len(node.values) else None
            shape = stats.shape if stats else ()
            symbol = self._symbol(node.name or ("x" if node.kind == "leaf" else "z"), shape, stats)
            known = self._made[node_id, output] = Value(symbol, shape)
            if node.kind == "leaf":
                self.leaves[node_id] = symbol
            else:
                self.opaque.append(Opaque(symbol, node.op, (), node_id))
        return known

    def _letter(self, call: ForwardCall, result: Operand) -> Value:
        """Return a letter for a result of a call that sympy has no function for, or that is too large."""
        stats = self._stats(result)
        shape = stats.shape if stats else ()
        if not result.node:
            return Value(self._symbol(result.name or "c", shape, stats), shape)
        symbol = self._symbol(self.graph.by_id[result.node].name or "z", shape, stats)
        name = call.function.removeprefix("torch.").removeprefix("nn.functional.").removeprefix("Tensor.")
        self.opaque.append(
            Opaque(symbol, name.removesuffix(".apply").strip("_"), tuple(self._listed(call)), result.node)
        )
        return Value(symbol, shape)

    def _listed(self, call: ForwardCall) -> Iterator[Any]:
        waiting: list[Operand] = [*call.args, *call.kwargs.values()]
        for operand in waiting:
            if operand.items is not None:
                waiting += operand.items
            elif operand.node or operand.key:
                yield self._tensor(operand).expression

    def _stats(self, result: Operand) -> TensorStats | None:
        if not result.node:
            return result.tensor
        node = self.graph.by_id[result.node]
        return node.values[result.output] if result.output < len(node.values) else None

    def _symbol(self, name: str, shape: tuple[int, ...], stats: TensorStats | None) -> Any:
        """Return a new symbol that is written ``name``, counted where that is taken or only a letter."""
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"t{plain}" if not plain[:1].isalpha() else plain
        plain += "_" if plain.endswith("_i") else ""
        first = 1 if name in _LETTERS else 2
        tries = chain([(plain, name)] if first > 1 else [], ((f"{plain}{k}", f"{name}{k}") for k in count(first)))
        stem, shown = next(each for each in tries if each[0] not in self._stems)
        self._stems.add(stem)
        symbol = sp.Symbol(f"{stem}_i" if shape else stem, real=True)
        self.names[symbol.name] = f"{shown}ᵢ" if shape else shown
        self.values[symbol] = None if stats is None else _flat(stats)
        return symbol

    def term(self, shown: str, first: str) -> Any:
        """Return a symbol for something only written, such as ``∂f/∂z1``; products are sorted by ``first``."""
        known = next((name for name, each in self.names.items() if each == shown), None)
        symbol = sp.Symbol(known or f"{first}{len(self.names):04}__", real=True)
        self.names[symbol.name] = shown
        self.values.setdefault(symbol, None)
        return symbol


_LETTERS = {"c", "z", "seed"}  # of what has no name: always counted
_TAKEN = {*keyword.kwlist, *ELEMENTWISE, "step", "Total", "Product", "Others", "pi", "E", "I", "sign", "numpy"}


def shortened(expression: Any) -> Any:
    """Return the shortest of a few forms of an expression."""
    if expression.count_ops() > _SIMPLIFIED:
        return expression
    simplified = sp.simplify(expression)
    return min(
        (expression, simplified, sp.factor_terms(simplified)), key=lambda form: (form.count_ops(), len(str(form)))
    )


def _plain_name(function: str) -> str:
    return function.rpartition(".")[2].strip("_")


def _set(kwargs: dict[str, Operand]) -> bool:
    return any(_given(operand) for operand in kwargs.values())


def _given(operand: Operand) -> bool:
    return bool(operand.node or operand.key or operand.items or operand.value not in (None, False))


def _constant(value: float) -> Any:
    exact = Fraction(value)
    return sp.Rational(exact.numerator, exact.denominator) if exact.denominator <= 64 else sp.Float(value)  # noqa: PLR2004


def _flat(stats: TensorStats) -> list[float] | None:
    if stats.values is None:
        return None
    found: list[float] = []
    waiting: list[Any] = [stats.values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif value is None:
            return None
        else:
            found.append(float(value))
    return found
