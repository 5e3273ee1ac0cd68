"""The expressions that a script computed, rebuilt from its recorded calls, per element of each tensor.

A call that sympy has no function for makes an opaque letter, and nothing is guessed about it. What is known but
large, or a matrix product of what is itself one, gets a letter that stands for its definition.
"""

from __future__ import annotations

import keyword
import re
from contextlib import suppress
from fractions import Fraction
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

import sympy as sp

from gradtrace.explain.differentiate import NoFormulaError, derivative, shortened
from gradtrace.explain.indexing import INDEXED
from gradtrace.explain.indices import At, Index, Total, axes, over_all, put_elements
from gradtrace.explain.layers import LAYERS
from gradtrace.explain.losses import LOSSES
from gradtrace.explain.operations import ELEMENTWISE
from gradtrace.explain.shapes import SHAPED, Value, joined
from gradtrace.model import Operand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, ForwardCall, Node, TensorStats

__all__ = ["MOST_CALLS", "Algebra", "Letter"]

MOST_CALLS = 400  # in one pass; above, nobody reads the expression
LARGEST = 60  # operations in one expression; a larger one gets a letter
_CONTRACTING = {
    *("matmul", "rmatmul", "mm", "bmm", "mv", "dot", "linear", "addmm"),
    *(
        "conv1d",
        "conv2d",
        "conv3d",
        "scaled_dot_product_attention",
        "multi_head_attention_forward",
        "max",
        "amax",
        "min",
        "amin",
    ),
    *("max_pool1d", "max_pool2d", "max_pool3d", "layer_norm", "batch_norm"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
}
_FIRST = {"max", "min", "multi_head_attention_forward"}
# The same elements in the same order.
_SAME = {"clone", "contiguous", "float", "double", "alias", "to", "type", "half", "bfloat16", "type_as"}
# Why a function has none, and what to do instead.
_NONE = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"),
                    "it is one fused call; write its cell with linear and elementwise functions to see the formula"),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
                    "it is one fused call; write it with linear and elementwise functions to see the formula"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
                    "it is not written out; the chain rule below has its backward"),
}  # fmt: skip
_UNFIT = (TypeError, ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError)


class Letter(NamedTuple):
    """A letter for what a call made: either it stands for a definition, or it is opaque and has operands."""

    symbol: Any
    shape: tuple[int, ...]
    node: str
    output: int
    definition: Any = None
    function: str = ""
    operands: tuple[Value, ...] = ()
    reason: str = ""  # why an opaque one has no formula, where that is known


class Algebra:
    """The expressions of one pass, from its leaves to its outputs.

    ``names`` tells how each symbol is written (``tex`` how in LaTeX, where that is not the same), ``held`` which
    tensor it is: a node's output, or a constant's key.
    """

    def __init__(self, graph: BackwardPass) -> None:
        self.graph = graph
        self.names: dict[str, str] = {}
        self.tex: dict[str, str] = {}
        self.held: dict[Any, tuple[str, int]] = {}
        self.stats: dict[Any, TensorStats | None] = {}
        self.letters: list[Letter] = []
        self.leaves: dict[str, Value] = {}
        self._stems = set(_TAKEN)
        self._made: dict[tuple[str, int], Value] = {}
        self._constants: dict[int, Value] = {}
        self._reason = ""  # why the call at hand has no formula
        self._contracted = set(_contracted(graph))  # what a matrix product is computed from, however far
        for call in graph.forward:
            self._add(call)

    def output(self) -> Any:
        """Return what was differentiated: the output, or the sum of the outputs, weighted with their seeds."""
        terms = []
        for node in self.graph.nodes:
            if node.kind == "output" and self.graph.edges_from[node.id]:  # else it has no graph
                edge = self.graph.edges_from[node.id][0]
                terms.append(self._seeded(self._of_node(edge.target, edge.target_index), node))
        return sp.Add(*terms)

    def _seeded(self, value: Value, node: Node) -> Any:
        seed = node.grads[0] if node.grads else None
        fits = seed is None or seed.shape == value.shape  # else its numbers are of something else
        if seed is None or (fits and seed.min == seed.max == 1):
            return over_all(value.expression, value.shape)
        weight = self._symbol("", value.shape, seed if fits else None, "seed")
        self.held[_base(weight)] = node.id, -1
        return over_all(value.expression * weight, value.shape)

    def expanded(self, expression: Any) -> Any:
        """Return the expression with definitions in place of their letters; raises where one is opaque."""
        for letter in reversed(self.letters):
            if expression.has(letter.symbol):
                if letter.definition is None:
                    raise NoFormulaError("an opaque function in between")
                expression = self._replaced(expression, letter)
        return expression

    def _replaced(self, expression: Any, letter: Letter) -> Any:
        here = axes(letter.shape)
        if not here:
            return put_elements(expression, letter.symbol, lambda _: letter.definition)
        return put_elements(
            expression,
            letter.symbol,
            lambda each: letter.definition.xreplace(dict(zip(here, each.args[1:], strict=True))),
        )

    def _add(self, call: ForwardCall) -> None:
        self._reason = _NONE.get(plain_name(call.function), "")
        named = not call.nodes and any(result.name for result in call.results)
        values = None if named else self._checked(call)
        if values is None:
            values = self._opaque(call)
        for result, value in zip(call.results, values, strict=False):
            if result.node:
                self._made[result.node, result.output] = self._short(result, value)
            elif result.key:
                self._constants[result.key] = value

    def _short(self, result: Operand, value: Value) -> Value:
        """Return a value, or a letter for it if it is large, or a matrix product that goes into another."""
        again = (result.node, result.output) in self._contracted and value.expression.has(Total)
        return self._defined(result, value) if again or value.expression.count_ops() > LARGEST else value

    def _defined(self, result: Operand, value: Value) -> Value:
        letter = self._symbol(self._name(result), value.shape, self._stats(result))
        symbol = _base(letter)
        self.held[symbol] = result.node, result.output
        self.letters.append(Letter(symbol, value.shape, result.node, result.output, value.expression))
        return Value(letter, value.shape)

    def _name(self, result: Operand) -> str:
        name = self.graph.by_id[result.node].name if result.node else ""
        outputs = {node.name for node in self.graph.nodes if node.kind == "output"}
        return name if name not in outputs else ""

    def _checked(self, call: ForwardCall) -> list[Value] | None:
        """Return what a call made as expressions, None where sympy can't say, or says another shape than was made."""
        if any(stats and stats.dtype.startswith("complex") for stats in self._all_stats(call)):
            return None  # whose derivatives are a convention
        try:
            values = self._computed(call)
            values = [*values, *map(self._outside, _others(call))] if values else None
        except NoFormulaError as error:
            self._reason = str(error)
            return None
        except _UNFIT:
            return None
        stats = [self._stats(result) for result in call.results]
        if values is None or len(values) != len(stats) or not all(0 not in value.shape for value in values):
            return None
        fits = all(one is None or one.shape == value.shape for one, value in zip(stats, values, strict=True))
        return values if fits else None

    def _computed(self, call: ForwardCall) -> list[Value] | None:
        name = plain_name(call.function)
        if call.function == "torch.autograd.grad":
            return [self._differentiated(call, by) for by in call.args[1:]]
        args = [self._given(operand) for operand in call.args]
        kwargs = {_PLAIN.get(key, key): self._given(operand) for key, operand in call.kwargs.items()}
        if name in _SAME:
            return [args[0]]
        if name in ELEMENTWISE:
            return [self._elementwise(name, args, kwargs)]
        function = _FUNCTIONS.get(name)
        if function is None:
            return None
        result = function(*args, **{key: value for key, value in kwargs.items() if value is not False or key in _TRUE})
        return result if isinstance(result, list) else [result]

    def _elementwise(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Value:
        values = [arg if isinstance(arg, Value) else _number(arg) for arg in args if arg is not None]
        more = {key: value for key, value in kwargs.items() if value is not None and value is not False}
        numbers = {key: _number(value).expression if _is_number(value) else value for key, value in more.items()}
        if len(values) < len(args) or any(isinstance(value, Value) for value in numbers.values()):
            raise TypeError("other arguments than the plain ones")
        return joined(ELEMENTWISE[name], values, **numbers)

    def _given(self, operand: Operand) -> Any:
        if operand.items is not None:
            return [self._given(item) for item in operand.items]
        if not operand.node and not operand.key:
            return _literal(operand.value)
        return self._tensor(operand)

    def _differentiated(self, call: ForwardCall, operand: Operand) -> Value:
        of, by = self._tensor(call.args[0]), self._tensor(operand)
        base = _base(by.expression)
        if base not in {_base(leaf.expression) for leaf in self.leaves.values()}:
            raise NoFormulaError("a derivative by something computed")
        targets = [Index(f"f{number}", index.size) for number, index in enumerate(axes(by.shape))]
        whole = self.expanded(over_all(of.expression, of.shape))
        gradient = shortened(derivative(whole, base, targets))
        return Value(gradient.xreplace(dict(zip(targets, axes(by.shape), strict=True))), by.shape)

    def _tensor(self, operand: Operand) -> Value:
        if operand.node:
            return self._of_node(operand.node, operand.output)
        known = self._constants.get(operand.key)
        if known is None:
            known = self._constants[operand.key] = self._outside(operand)
        return known

    def _outside(self, operand: Operand) -> Value:
        stats = operand.tensor
        if stats is not None and not stats.shape and not operand.name and type(stats.values) in {int, float}:
            return _number(stats.values)
        if stats is not None and stats.dtype.startswith(("int", "uint")) and stats.min is not None and stats.min < 0:
            raise NoFormulaError("indices from the end")
        shape = stats.shape if stats is not None else ()
        symbol = self._symbol(operand.name, shape, stats, "c")
        self.held[_base(symbol)] = "", operand.key
        return Value(symbol, shape)

    def _of_node(self, node_id: str, output: int) -> Value:
        known = self._made.get((node_id, output))
        if known is None:
            node = self.graph.by_id[node_id]
            stats = node.values[output] if output < len(node.values) else None
            known = self._leaf(node, stats) if node.kind == "leaf" else self._letter(node_id, output, node.op, ())
            self._made[node_id, output] = known
        return known

    def _leaf(self, node: Node, stats: TensorStats | None) -> Value:
        shape = stats.shape if stats else ()
        symbol = self._symbol(node.name or "x", shape, stats)
        self.held[_base(symbol)] = node.id, 0
        self.leaves[node.id] = Value(symbol, shape)
        return self.leaves[node.id]

    def _opaque(self, call: ForwardCall) -> list[Value]:
        """Return a letter for each result of a call that sympy has no function for."""
        name, operands = _shown_name(call.function), tuple(self._operands(call))
        return [
            self._letter(result.node, result.output, name, operands) if result.node else self._outside(result)
            for result in call.results
        ]

    def _letter(self, node: str, output: int, function: str, operands: tuple[Value, ...]) -> Value:
        known = self.graph.by_id[node]
        stats = known.values[output] if output < len(known.values) else None
        shape = stats.shape if stats else ()
        symbol = self._symbol(self._name(Operand(node, output)), shape, stats)
        self.held[_base(symbol)] = node, output
        reason = self._reason if operands else ""  # without any it is no call's
        self.letters.append(Letter(_base(symbol), shape, node, output, None, function, operands, reason))
        return Value(symbol, shape)

    def _operands(self, call: ForwardCall) -> Iterator[Value]:
        for operand in _flat(call):
            if operand.node or operand.key:
                with suppress(NoFormulaError):
                    yield self._tensor(operand)

    def _all_stats(self, call: ForwardCall) -> Iterator[TensorStats | None]:
        return map(self._stats, (*_flat(call), *call.results))

    def _stats(self, result: Operand) -> TensorStats | None:
        if not result.node:
            return result.tensor
        node = self.graph.by_id[result.node]
        return node.values[result.output] if result.output < len(node.values) else None

    def _symbol(self, name: str, shape: tuple[int, ...], stats: TensorStats | None, letter: str = "z") -> Any:
        """Return what a new tensor holds, written ``name``, counted where that is taken, or a letter with a number."""
        first, name = (2, name) if name else (1, letter)
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = f"t{plain}" if not plain[:1].isalpha() else plain
        tries = chain([(plain, name), (f"{plain}_", name)] if first > 1 else [],
                      ((f"{plain}{k}", f"{name}{k}") for k in count(first)))  # fmt: skip
        written = set(self.names.values())
        stem, shown = next(each for each in tries if each[0] not in self._stems and each[1] not in written)
        self._stems.add(stem)
        symbol = sp.Symbol(stem, real=True)
        self.names[stem] = shown
        self.stats[symbol] = stats
        return At(symbol, *axes(shape)) if axes(shape) else symbol

    def term(self, shown: str, tex: str, first: str) -> Any:
        """Return a symbol for something only written, such as ``∂f/∂z1``; products are sorted by ``first``."""
        symbol = sp.Symbol(f"{first}{len(self.names):04}__", real=True)
        self.names[symbol.name] = shown
        self.tex[symbol.name] = tex
        return symbol


_TRUE = {"count_include_pad", "unbiased"}  # arguments that are true by default; all others are false, or have no effect
_PLAIN = {"axis": "dim", "keepdims": "keepdim"}
_FUNCTIONS = {**SHAPED, **INDEXED, **LAYERS, **LOSSES}
_TAKEN = {*keyword.kwlist, *ELEMENTWISE, *_FUNCTIONS, "step", "above", "pi", "E", "I", "sign", "oo", "zoo", "nan"}
_SLICE = re.compile(r"slice\((None|-?\d+), (None|-?\d+), (None|-?\d+)\)")


def _contracted(graph: BackwardPass) -> Iterator[tuple[str, int]]:
    """Yield the results from which a later matrix product is computed."""
    wanted: set[tuple[str, int]] = set()
    for call in reversed(graph.forward):
        made = {(result.node, result.output) for result in call.results}
        if plain_name(call.function) in _CONTRACTING or made & wanted:
            new = {(each.node, each.output) for each in _flat(call) if each.node}
            wanted |= new
            yield from new


def _flat(call: ForwardCall) -> Iterator[Operand]:
    waiting: list[Operand] = [*call.args, *call.kwargs.values()]
    for operand in waiting:
        waiting += operand.items or ()
        yield operand


def _others(call: ForwardCall) -> list[Operand]:
    """Return the second result of a call that differentiates only the first: places of the largest, weights."""
    return [result for result in call.results[1:2] if plain_name(call.function) in _FIRST]


def _base(expression: Any) -> Any:
    return expression.args[0] if isinstance(expression, At) else expression


def plain_name(function: str) -> str:
    """Return a function's own name: ``add`` of ``torch.Tensor.__iadd__`` or ``torch.Tensor.add_``."""
    name = function.removesuffix(".__get__").rpartition(".")[2].strip("_").removeprefix("linalg_")
    return name[1:] if name in {"iadd", "isub", "imul", "idiv", "itruediv", "ipow"} else name


def _shown_name(function: str) -> str:
    return function.rpartition(".")[0] if function.endswith(".apply") else plain_name(function)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> Value:
    if not _is_number(value):
        raise TypeError("no number")
    exact = Fraction(value)
    number = sp.Rational(exact.numerator, exact.denominator) if exact.denominator <= 64 else sp.Float(value)  # noqa: PLR2004
    return Value(number, ())


def _literal(value: Any) -> Any:
    """Return a plain argument as the script gave it, slices and the Ellipsis from their text."""
    if isinstance(value, list):
        return [_literal(item) for item in value]
    if value == "Ellipsis":
        return Ellipsis
    match = _SLICE.fullmatch(value) if isinstance(value, str) else None
    return slice(*(None if part == "None" else int(part) for part in match.groups())) if match else value
