"""An explanation as Markdown with maths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.chain import called
from gradtrace.explain.formats.base import register
from gradtrace.explain.phrasing import arrived, by_autograd, checked, compared, held, local, symbol
from gradtrace.wording.nodes import location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.chain import Step
    from gradtrace.explain.explanation import Explanation

__all__ = ["markdown"]


@register("markdown", ".md")
def markdown(explanation: Explanation, _width: int) -> str:
    """Markdown: equations in ``$``, a table of the numbers, the chain rule as a list."""
    title = f"## {explanation.title[0].upper()}{explanation.title[1:]}"
    notes = (f"*{note}*\n" for note in explanation.notes)
    return "\n".join([title, "", *notes, *_table(explanation), *_checks(explanation), *_nodes(explanation), ""])


def _table(explanation: Explanation) -> Iterator[str]:
    if not explanation.equations:
        return
    yield "| | value | autograd | finite differences |"
    yield "|---|---|---|---|"
    for line in explanation.equations:
        where = f" ({location(line.source)})" if line.source else ""
        formula = f"${line.left_latex} = {line.right_latex}$" if line.left_latex else f"`{line.left} = {line.right}`"
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
        where = f" ({location(step.node.source)})" if step.node.source else ""
        yield _head(explanation, step) + where
        if step.node.kind == "function" and not step.meetings:
            yield from (f"  - received {held(grad)}" for grad in step.node.grads)
        yield from (
            f"  - sent {held(f.edge.grad)} to `{called(explanation.graph.by_id[f.edge.target])}`{_how(local(f))}"
            for f in step.terms
        )
        for meeting in step.meetings:
            parts = " + ".join(f"{held(grad)} (through `{name}`)" for grad, name in meeting.parts)
            yield f"  - {parts} = {held(meeting.total)}" if meeting.total else f"  - {parts}"


def _head(explanation: Explanation, step: Step) -> str:
    node = step.node
    values = ", ".join(held(value) for value in node.values if value is not None)
    if node.kind == "output":
        return f"- `{node.name or 'output'}` = {values}, seeded with {held(node.grads[0] if node.grads else None)}"
    if node.kind == "leaf":
        return (
            f"- {symbol(explanation.graph, node.name or 'an unnamed leaf')} = {held(arrived(explanation.graph, node))}"
        )
    return f"- **{node.op}** `{called(node)}`{f' = {values}' if values else ''}"


def _how(formula: str) -> str:
    return f", by `{formula}`" if formula else ""


def _cell(text_: str) -> str:
    # GitHub ends a cell at every bar, even inside maths.
    return text_.replace("|", "\\|")
