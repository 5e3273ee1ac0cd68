"""The equations of an explanation in LaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.explain.formats.base import register

if TYPE_CHECKING:
    from gradtrace.explain.derivation import Equation
    from gradtrace.explain.explanation import Explanation

__all__ = ["latex"]


@register("latex", ".tex")
def latex(explanation: Explanation, _width: int) -> str:
    """The equations as an ``align*`` environment; what has no formula is a comment."""
    rows = [
        rf"  {line.left_latex} &= {line.right_latex}{_number(line)}"
        for line in explanation.equations
        if line.left_latex
    ]
    notes = "".join(f"% {note}\n" for note in explanation.notes)
    return notes + ("\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}\n" if rows else "")


def _number(line: Equation) -> str:
    told = isinstance(line.value, float) and f"{line.value:.4g}" != line.right
    return f" = {line.value:.4g}" if told else ""
