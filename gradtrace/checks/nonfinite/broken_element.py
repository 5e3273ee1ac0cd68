"""The element of a gradient or a value that broke: its index, the input there, and what arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.stats_queries import elements
from gradtrace.ops import op_of
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from gradtrace.model import Attribute, BackwardPass, Edge, Fact, Node, Source, TensorStats

__all__ = ["Element", "element_computed", "element_sent", "in_words", "input_name"]

# Names of the first and the second input among a node's saved tensors; a result stands for the first.
INPUTS = (("self", "input", "result"), ("other", "exponent", "tensor2"))
SHORT = 40


class Element(NamedTuple):
    """An element: its place as text, as ``[3, 1]``, the input and the gradient that arrived there, None if not known.

    ``saved`` is what else the node kept of that place, by name, a word where it is not finite; ``came`` how an input
    that is not finite came about, and ``source`` where.
    """

    place: str
    value: float | str | None = None
    arrived: float | None = None
    saved: dict[str, float | str] = {}  # noqa: RUF012 - nobody writes to it
    came: str = ""
    source: Source | None = None


def element_sent(graph: BackwardPass, edge: Edge) -> Element | None:
    """Return the first broken element of the gradient along this edge."""
    fact = next((f for f in graph.facts if f.kind == "broken-gradient" and _is_of(f, edge)), None)
    node, target = graph.by_id[edge.source], graph.by_id[edge.target]
    if fact is not None:
        return _noted(fact, node, edge.source_index)
    known = target.values[edge.target_index] if edge.target_index < len(target.values) else None
    arrived = next((dict(elements(grad)) for grad in node.grads if grad is not None), {})
    held = {} if known is None or edge.grad is None or known.shape != edge.grad.shape else dict(elements(known))
    for index, value in elements(edge.grad) if edge.grad is not None else ():
        if value is None:
            return Element(index, held.get(index), arrived.get(index))
    return None


def _is_of(fact: Fact, edge: Edge) -> bool:
    return edge.source in fact.nodes and fact.data["input"] == edge.source_index


def _noted(fact: Fact, node: Node, position: int) -> Element:
    saved = {str(pair[0]): _read(pair[1]) for pair in _list(fact.data["saved"]) if isinstance(pair, list)}
    value = fact.data.get("value")
    for name in INPUTS[position] if position < len(INPUTS) else ():
        kept = saved.get(name)
        if value is None and kept is not None and (name != "result" or op_of(node.op).inverse):
            value = _before(node, float(kept)) if name == "result" else kept
    arrived = fact.data["arrived"]
    if "equal" in fact.data:
        saved["equal"] = _read(fact.data["equal"])
    return Element(
        f"[{', '.join(str(i) for i in _list(fact.data['element']))}]" if fact.data["element"] else "",
        value if isinstance(value, (int, float, str)) else None,
        arrived if isinstance(arrived, (int, float)) else None,
        saved,
        str(fact.data.get("came", "")),
        fact.source,
    )


def _before(node: Node, result: float) -> float | None:
    """Return the input of a result, if only the result was saved."""
    inverse = op_of(node.op).inverse
    try:
        return float(inverse(result)) if inverse else None
    except ZeroDivisionError:
        return None


def _read(value: Attribute) -> float | str:
    return value if isinstance(value, str) else float(str(value))


def _list(value: object) -> list[Attribute]:
    return value if isinstance(value, list) else []


def element_computed(stats: TensorStats, output: TensorStats | None) -> Element | None:
    """Return the first element of an output that is broken though the input, of ``stats``, is not."""
    if output is None or output.shape != stats.shape:
        return None
    before = dict(elements(stats))
    bad = [index for index, value in elements(output) if value is None and before.get(index) is not None]
    return Element(bad[0], before[bad[0]]) if bad else None


def input_name(node: Node) -> str:
    """Return the name of the output of ``node`` as another one's input: its variable, or its expression."""
    if node.name:
        return node.name
    text = " ".join(node.source.text.split()) if node.source else ""
    return f"`{text}`" if text and len(text) < SHORT else "its input"


def in_words(name: str, element: Element) -> str:
    """Return ``x[3, 1] is 0 and a gradient of 1 arrived``, as far as it is known."""
    value = element.value if isinstance(element.value, str) else number(element.value)
    known = [f"{name}{element.place} is {'NaN' if value == 'nan' else value}"] if element.value is not None else []
    if not known and element.place:
        known = [f"at element {element.place} of {name}" + _kept(element)]
    if element.arrived is not None and known:
        known.append(f"a gradient of {number(element.arrived)} arrived")
    return " and ".join(known) if element.value is not None else ", ".join(known)


def _kept(element: Element) -> str:
    result = element.saved.get("result")
    return "" if result is None else f", where its result is {result if isinstance(result, str) else number(result)}"
