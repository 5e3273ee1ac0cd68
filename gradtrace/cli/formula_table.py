"""The derivative formulas of the torch that made a trace."""

# ruff: noqa: PLC0415 - sympy and torch are imported when there is something to explain

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.cli.output import say

if TYPE_CHECKING:
    from gradtrace.explain.formulas import Table
    from gradtrace.model import BackwardPass, Trace

__all__ = ["table_of", "with_formulas"]


def table_of(trace: Trace) -> Table:
    """Return the formulas of the torch that made the trace: the committed table, or looked up in that torch."""
    from gradtrace.explain.formulas import Table, pinned

    version = trace.versions.get("torch", "").partition("+")[0]
    if version in {"", pinned().torch}:
        return pinned()
    try:
        from gradtrace.recording.autograd.derivatives_yaml import read

        live = Table(read())
    except (ImportError, OSError):
        live = pinned()
    if live.torch != version:
        say(f"the formulas are those of torch {live.torch}; the trace was made by {version}")
    return live


def with_formulas(graph: BackwardPass, trace: Trace) -> BackwardPass:
    """Return a pass whose nodes carry their formula, to be drawn."""
    from gradtrace.explain.formulas import formula_line

    table = table_of(trace)
    return replace(graph, nodes=tuple(replace(node, formula=formula_line(graph, node, table)) for node in graph.nodes))
