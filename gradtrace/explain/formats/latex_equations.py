"""The equations of an explanation in LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.chain import only_number
from gradtrace.explain.formats.base import register
from gradtrace.explain.formats.terminal_text import WIDEST, text
from gradtrace.explain.phrasing import held, symbol
from gradtrace.wording.numbers import number
from gradtrace.wording.quoting import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.derivation import Equation
    from gradtrace.explain.explanation import Explanation

__all__ = ["latex"]


@register("latex", ".tex")
def latex(explanation: Explanation, _width: int) -> str:
    """The equations as an ``align*`` environment; everything else that the terminal shows is a comment."""
    rows = [
        rf"  {line.left_latex} &= {line.right_latex}{_number(line)}"
        for line in explanation.equations
        if line.left_latex
    ]
    rows += list(_sums(explanation))
    equations = "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}\n" if rows else ""
    return visible(equations) + "".join(f"% {line}".rstrip() + "\n" for line in text(explanation, WIDEST).splitlines())


def _sums(explanation: Explanation) -> Iterator[str]:
    """Yield each gradient that is a sum of several, where all are numbers."""
    lefts = {line.left: line.left_latex for line in explanation.equations}
    for step in explanation.steps:
        left = lefts.get(symbol(explanation.graph, step.node.name))
        for meeting in step.meetings if step.node.kind == "leaf" and left else ():
            values = [only_number(grad) for grad in (*(grad for grad, _ in meeting.parts), meeting.total)]
            shown = [number(value) for value in values if value is not None]
            if len(shown) == len(values):
                yield rf"  {left} &= {' + '.join(shown[:-1]).replace('+ -', '- ')} = {shown[-1]}"


def _number(line: Equation) -> str:
    told = isinstance(line.value, float) and f"{line.value:.4g}" != line.right
    differs = rf" \quad \text{{(autograd: {held(line.autograd)})}}" if line.differs else ""
    return f" = {line.value:.4g}{differs}" if told else differs
