"""The explanation of one pass: what its formats write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.explain.chain import Step, steps
from gradtrace.explain.formulas import Table, pinned
from gradtrace.wording.nodes import location

if TYPE_CHECKING:
    from gradtrace.explain.derivation import Equation
    from gradtrace.model import BackwardPass

__all__ = ["Explanation", "explain"]

NO_CALLS = "no formula of the whole: the trace holds no calls (record --calls keeps them; torch.compile hides them)"


class Explanation(Struct, frozen=True):
    """Explanation of a pass: the derivation (where its calls were recorded), and the chain rule."""

    graph: BackwardPass
    equations: tuple[Equation, ...]
    steps: tuple[Step, ...]
    title: str = ""
    notes: tuple[str, ...] = ()


def explain(graph: BackwardPass, order: int = 1, table: Table | None = None) -> Explanation:
    """Return the explanation of a pass, with derivatives up to this order and the formulas of this table."""
    notes = []
    lines: list[Equation] = []
    try:
        from gradtrace.explain.derivation import derive  # noqa: PLC0415 - sympy takes a quarter of a second
    except ImportError:
        notes.append("no formulas of the whole: they need sympy, which comes with torch")
    else:
        lines = derive(graph, order)
        notes += dict.fromkeys(line.reason for line in lines if line.reason)
    if not graph.forward:
        notes.append(NO_CALLS)
    elif not lines and not notes:
        notes.append(f"no formula of the whole: {len(graph.forward):,} calls are too many to write out")
    chain = steps(graph, table or pinned())
    return Explanation(graph, tuple(lines), tuple(chain), _title(graph), tuple(notes))


def _title(graph: BackwardPass) -> str:
    call = f", {graph.call.text} ({location(graph.call)})" if graph.call else ""
    return f"the chain rule in backward order: pass {graph.index}{call}"
