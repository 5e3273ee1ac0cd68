"""An explanation as plain text, for the terminal: the derivation, then the chain rule node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.chain import called
from gradtrace.explain.formats.base import register
from gradtrace.explain.layout import Row, beside, derivation, wrapped
from gradtrace.explain.phrasing import arrived, by_autograd, checked, compared, held, local, symbol
from gradtrace.wording.nodes import location
from gradtrace.wording.quoting import visible

if TYPE_CHECKING:
    from gradtrace.explain.chain import Meeting, Step
    from gradtrace.explain.derivation import Equation
    from gradtrace.explain.explanation import Explanation
    from gradtrace.model import Node

__all__ = ["WIDEST", "text"]

WIDEST = 100  # columns, where no terminal says how many it has
LONGEST = 24  # characters of the code that a gradient goes to


@register("text", ".txt")
def text(explanation: Explanation, width: int = WIDEST) -> str:
    """Lines of text, not wider than ``width`` columns where they can be broken."""
    notes = [f"({note})" for note in explanation.notes]
    lines = [line for note in notes for line in wrapped(note, width)]
    lines += derivation([_row(line) for line in explanation.equations], width)
    lines += [line for each in checked(explanation.graph) for line in wrapped(each, width)]
    lines += ["", *wrapped(explanation.title, width), ""]
    for step in explanation.steps:
        lines += _step(explanation, step, width)
    return "\n".join(visible(line).rstrip() for line in lines) + "\n"


def _row(line: Equation) -> Row:
    shown = held(line.number.stats) if line.number is not None else ""
    value = f"= {shown}" if shown and shown != line.right else ""
    check = f"finite differences {compared(line.comparison)}" if line.comparison else ""
    last = location(line.source) if line.source else "THE TWO DIFFER" if line.differs else ""
    autograd = f"autograd {by_autograd(line)}" if line.autograd else ""
    return f"{line.left} = {line.right}", value, autograd, check, last


def _step(explanation: Explanation, step: Step, width: int) -> list[str]:
    node = step.node
    values = [held(value) for value in node.values if value is not None]
    value = f" = {', '.join(values)}" if values else ""
    if node.kind == "output":
        said = f"{node.name or 'output'}{value}, seeded with {held(node.grads[0] if node.grads else None)}"
        return [*wrapped(said, width), ""]
    if node.kind == "leaf":
        lines = [line for each in _leaf(explanation, step) for line in wrapped(each, width)]
        return [*lines, ""] if step.meetings else lines
    lines = wrapped(f"{node.op}{_said(node)}{value}{_where(node)}", width)
    for meeting in step.meetings:
        lines += wrapped(f"    in     {_sum(meeting)}", width, 11)
    lines += [f"    in     {held(grad)}" for grad in ([] if step.meetings else node.grads)]
    for term in step.terms:
        target = explanation.graph.by_id[term.edge.target]
        lines += beside(f"    out    {held(term.edge.grad)} → {_short(called(target))}", local(term), width)
    return [*lines, ""]


def _said(node: Node) -> str:
    source = node.library or node.source
    code = " ".join(source.text.split()) if source else ""
    names = list(dict.fromkeys(filter(None, (node.name, code))))
    return f"  {' = '.join(names)}" if names else ""


def _where(node: Node) -> str:
    where = f"  {location(node.source)}" if node.source else ""
    return f"{where}{'  (never ran)' if node.order is None else ''}"


def _leaf(explanation: Explanation, step: Step) -> list[str]:
    node = step.node
    name = node.name or "an unnamed leaf"
    left = symbol(explanation.graph, name)
    if step.meetings:
        return [f"{left} = {_sum(meeting)}" for meeting in step.meetings]
    return [f"{left} = {held(arrived(explanation.graph, node))}"]


def _sum(meeting: Meeting) -> str:
    parts = " + ".join(f"{held(grad)} (through {name})" for grad, name in meeting.parts)
    return f"{parts} = {held(meeting.total)}" if meeting.total is not None else parts


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2 - 1].rstrip()} … {name[1 - LONGEST // 2 :].lstrip()}"
