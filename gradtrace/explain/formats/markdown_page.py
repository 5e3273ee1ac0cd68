"""An explanation as Markdown with maths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.chain import called
from gradtrace.explain.formats.base import register
from gradtrace.explain.phrasing import arrived, by_autograd, checked, compared, held, local, symbol
from gradtrace.wording.nodes import location
from gradtrace.wording.quoting import markdown_code, markdown_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.chain import Step
    from gradtrace.explain.explanation import Explanation

__all__ = ["markdown"]


@register("markdown", ".md")
def markdown(explanation: Explanation, _width: int) -> str:
    """Markdown: equations in ``$``, a table of the numbers, the chain rule as a list."""
    title = f"## {explanation.title[0].upper()}{markdown_text(explanation.title[1:])}"
    notes = (f"*{markdown_text(note)}*\n" for note in explanation.notes)
    return "\n".join([title, "", *notes, *_table(explanation), *_checks(explanation), *_nodes(explanation), ""])


def _table(explanation: Explanation) -> Iterator[str]:
    if not explanation.equations:
        return
    yield "| | value | autograd | finite differences |"
    yield "|---|---|---|---|"
    for line in explanation.equations:
        where = f" ({markdown_text(location(line.source))})" if line.source else ""
        code = markdown_code(f"{line.left} = {line.right}")
        formula = f"${line.left_latex} = {line.right_latex}$" if line.left_latex else code
        value = held(line.number.stats) if line.number is not None else ""
        autograd = by_autograd(line) + (" — THE TWO DIFFER" if line.differs else "")
        check = compared(line.comparison) if line.comparison else ""
        yield f"| {_cell(formula)}{where} | {value} | {_cell(autograd)} | {_cell(check)} |"
    yield ""


def _checks(explanation: Explanation) -> Iterator[str]:
    words = [line.strip() for line in checked(explanation.graph) if line]
    yield from [f"{'; '.join(words)}.", ""] if words else []


def _nodes(explanation: Explanation) -> Iterator[str]:
    for step in explanation.steps:
        where = f" ({markdown_text(location(step.node.source))})" if step.node.source else ""
        yield _head(explanation, step) + where
        if step.node.kind == "function" and not step.meetings:
            yield from (f"  - received {held(grad)}" for grad in step.node.grads)
        for term in step.terms:
            target = markdown_code(called(explanation.graph.by_id[term.edge.target]))
            yield f"  - sent {held(term.edge.grad)} to {target}{_how(local(term))}"
        for meeting in step.meetings:
            parts = " + ".join(f"{held(grad)} (through {markdown_code(name)})" for grad, name in meeting.parts)
            yield f"  - {parts} = {held(meeting.total)}" if meeting.total else f"  - {parts}"


def _head(explanation: Explanation, step: Step) -> str:
    node = step.node
    values = ", ".join(held(value) for value in node.values if value is not None)
    if node.kind == "output":
        seed = held(node.grads[0] if node.grads else None)
        return f"- {markdown_code(node.name or 'output')} = {values}, seeded with {seed}"
    if node.kind == "leaf":
        return (
            f"- {markdown_text(symbol(explanation.graph, node.name or 'an unnamed leaf'))}"
            f" = {held(arrived(explanation.graph, node))}"
        )
    return f"- **{markdown_text(node.op)}** {markdown_code(called(node))}{f' = {values}' if values else ''}"


def _how(formula: str) -> str:
    return f", by {markdown_code(formula)}" if formula else ""


def _cell(text_: str) -> str:
    # GitHub ends a cell at every bar, even inside maths.
    return text_.replace("|", "\\|")
