"""The chain rule of one pass, node by node in backward order: what came in, the local derivative, what went out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.explain.notation import evaluated, notation, put_in
from gradtrace.explain.readable import letters, names_in
from gradtrace.model import BackwardPass, Edge, ForwardCall, Node, Operand, TensorStats
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.formulas import Formula, Table

__all__ = ["Meeting", "Step", "Term", "called", "only_number", "steps"]


_FACTORS = ("alpha", "beta")  # left out of a formula where they are 1, as they nearly always are


class Term(Struct, frozen=True):
    """A gradient that left a node: its edge and its formula.

    ``formula`` and ``local`` are text (the second without the gradient that arrived, empty where it is no
    factor), ``filled`` is ``local`` with the values put in, ``number`` the local derivative of a scalar.
    """

    edge: Edge
    formula: str = ""
    local: str = ""
    filled: str = ""
    number: float | None = None


class Meeting(Struct, frozen=True):
    """Gradients that met at one output of a node: what each brought and through which expression."""

    output: int
    parts: tuple[tuple[TensorStats | None, str], ...]
    total: TensorStats | None


class Step(Struct, frozen=True):
    """A node of the chain rule: the gradients that met there and those that it sent."""

    node: Node
    terms: tuple[Term, ...] = ()
    meetings: tuple[Meeting, ...] = ()


def steps(graph: BackwardPass, table: Table) -> list[Step]:
    """Return the chain rule of a pass, from its outputs to its leaves; leaves come last."""
    chain = _Chain(graph, table)
    ordered = sorted(graph.nodes, key=lambda node: node.kind == "leaf")
    return [chain.step(node) for node in ordered]


def called(node: Node) -> str:
    """Return a node's name, or the code that made it, or its op."""
    source = node.library or node.source
    return one_line(node.name or (source.text if source else "") or node.op)


def only_number(stats: TensorStats | None) -> float | None:
    """Return the number that a tensor of no dimension held, None for any other."""
    value = stats.values if stats is not None and not stats.shape else None
    return float(value) if isinstance(value, (int, float)) else None


class _Chain:
    def __init__(self, graph: BackwardPass, table: Table) -> None:
        self._graph = graph
        self._table = table
        self._letters = letters(names_in(graph))
        self._calls = {call.nodes[0]: call for call in graph.forward if len(call.nodes) == 1}

    def step(self, node: Node) -> Step:
        terms = tuple(self._term(node, edge) for edge in self._graph.edges_from[node.id])
        return Step(node, terms if node.kind == "function" else (), tuple(self._meetings(node)))

    def _term(self, node: Node, edge: Edge) -> Term:
        formula = self._table.formula(node.op, edge.source_index)
        arrived = only_number(node.grads[0]) if len(node.grads) == 1 else None
        sent = only_number(edge.grad)
        ratio = sent / arrived if sent is not None and arrived else None
        if formula is None:
            return Term(edge, number=ratio)
        ones = {name: 1 for name in _FACTORS if node.attributes.get(name) == 1}
        formula = replace(formula, expression=put_in(formula.expression, ones)) if ones else formula
        local = formula.local()
        values = self._values(node, formula)
        names = {**self._letters, **self._names(node)}
        whole = notation(put_in(formula.expression, names), " · ") if formula.readable else formula.expression
        text = notation(put_in(local, names), " · ") if local else ""
        filled = notation(put_in(local, {**names, **values}), " · ") if local else ""
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        exact = ratio if ratio is not None else evaluated(local, numbers)
        return Term(edge, whole, text, filled, exact)

    def _names(self, node: Node) -> dict[str, str]:
        """Return the script's own names of what a node was given and made."""
        given = {name: shown for name, _, shown in self._operands(node) if shown.isidentifier()}
        return {**given, "result": node.name} if node.name.isidentifier() and len(node.values) == 1 else given

    def _values(self, node: Node, formula: Formula) -> dict[str, float | str]:
        """Return what is known of the names in a formula: numbers, and the names of tensors of more elements."""
        values: dict[str, float | str] = {}
        plain = ((n, v) for n, v in node.attributes.items() if isinstance(v, (int, float)) and not isinstance(v, bool))
        values.update(plain)
        for name, stats, shown in self._operands(node):
            if stats is not None and name == formula.input:
                values["numel"] = math.prod(stats.shape)
            value = only_number(stats)
            if value is not None:
                values[name] = value
            elif shown.isidentifier():
                values[name] = shown
        result = only_number(node.values[0]) if node.values else None
        return values if result is None else {**values, "result": result}

    def _operands(self, node: Node) -> Iterator[tuple[str, TensorStats | None, str]]:
        """Yield the forward's tensor arguments: name in the formulas, what it held, name in the script."""
        call = self._calls.get(node.id)
        if call is not None:
            yield from self._constants(node, call)
        for edge in self._graph.edges_from[node.id]:
            formula = self._table.formula(node.op, edge.source_index)
            target = self._graph.by_id[edge.target]
            if formula is not None and edge.target_index < len(target.values):
                yield formula.input, target.values[edge.target_index], target.name

    def _constants(self, node: Node, call: ForwardCall) -> Iterator[tuple[str, TensorStats | None, str]]:
        args = call.args[::-1] if call.function.endswith(("__rpow__", "__rmatmul__")) else call.args
        for name, operand in zip(self._table.arguments(node.op), args, strict=False):
            stats = _held(operand)
            if stats is not None:
                yield name, stats, operand.name

    def _meetings(self, node: Node) -> Iterator[Meeting]:
        into = self._graph.edges_into[node.id]
        for output in sorted({edge.target_index for edge in into}):
            sources = [(edge.grad, self._graph.by_id[edge.source]) for edge in into if edge.target_index == output]
            parts = [(grad, called(source)) for grad, source in sorted(sources, key=_written)]
            total = node.grads[output] if output < len(node.grads) else None
            if len(parts) > 1:
                yield Meeting(output, tuple(parts), total)


def _written(part: tuple[TensorStats | None, Node]) -> tuple[bool, str, int, int]:
    """Return where the code that a gradient came through stands: a sum is told in the order of the script."""
    source = part[1].source
    return (False, source.filename, source.line, source.column) if source else (True, "", 0, 0)


def _held(operand: Operand) -> TensorStats | None:
    """Return what a constant operand held; a plain number counts as a tensor of no dimension."""
    if operand.tensor is not None:
        return operand.tensor
    value = operand.value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return TensorStats((), values=float(value))
    return None
