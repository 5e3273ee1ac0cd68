"""``gradtrace explain``: show the chain rule with formulas, and check the numbers."""

# ruff: noqa: PLC0415 - sympy and torch are imported when there is something to explain

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtrace.api import select
from gradtrace.checks.base import Thresholds
from gradtrace.checks.wrong_gradient import wrong_gradient
from gradtrace.cli.formula_table import table_of
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.options import Module, PassNumber, Rank, Source, is_pass, kept_passes
from gradtrace.cli.output import Target, busy, say
from gradtrace.cli.source import find
from gradtrace.errors import UnknownNameError
from gradtrace.explain.formats.base import EXPLANATIONS
from gradtrace.processes.process import file_name
from gradtrace.wording.nodes import location

if TYPE_CHECKING:
    from gradtrace.cli.source import Recorded
    from gradtrace.explain.formulas import Table
    from gradtrace.model import BackwardPass, Finding
    from gradtrace.registry import Plugin

__all__ = ["explain"]

WIDEST = 100  # columns of a file, and of a terminal of unknown width
LATE = (
    Late("output", ("-o", "--output"), lambda value: value == "-" or EXPLANATIONS.for_suffix(value) is not None),
    Late("format", ("-f", "--format"), EXPLANATIONS.__contains__, EXPLANATIONS),
    Late("pass", ("--pass",), is_pass),
    Late("order", ("--order",), str.isdecimal),
    Late("latex", ("--latex",)),
    Late("no-numeric", ("--no-numeric",)),
    Late("numeric", ("--numeric",)),
)
Output = Annotated[
    str, typer.Option("-o", "--output", metavar="FILE", help="The file to write (.txt, .md, .tex); - is stdout.")
]
Format = Annotated[
    str | None, typer.Option("-f", "--format", metavar="FORMAT", help="The output format: text, markdown or latex.")
]
Latex = Annotated[bool, typer.Option("--latex", help="The same as -f latex.")]
Order = Annotated[
    int, typer.Option("--order", metavar="N", min=1, max=4, help="Derivatives up to this order, for example 2.")
]
Numeric = Annotated[bool, typer.Option(help="Compare the gradients with finite differences.")]


def explain(
    context: typer.Context,
    source: Source,
    *,
    output: Output = "-",
    format_name: Format = None,
    latex: Latex = False,
    order: Order = 1,
    numeric: Numeric = True,
    number: PassNumber = "last",
    module: Module = False,
    rank: Rank = None,
) -> None:
    """Run SCRIPT and show how its gradients follow from the chain rule: formulas, numbers, and a check of both.

    Arguments after SCRIPT are passed to it. What it prints goes to stderr.
    """
    late, arguments = take_late(context, LATE)
    output, number = late.get("output", output), late.get("pass", number)
    chosen = _format(late.get("format", format_name), output, latex=latex or "latex" in late)
    order, numeric = int(late.get("order", order)), numeric and "no-numeric" not in late
    keep = kept_passes(number)
    work = find(source, arguments, module=module).of_rank(rank)
    target = Target(file_name(output, work.process))
    recorded = work.record(keep, calls=True, numeric=numeric, linked=True)
    passes, exit_code = _chosen(recorded, number, keep)
    table = table_of(recorded.trace)
    width = shutil.get_terminal_size((WIDEST, 24)).columns if output == "-" else WIDEST
    with busy("deriving formulas"):
        told = "\n".join(_told(graph, order, (chosen, width), table) for graph in passes)
    target.write(told)
    if output != "-":
        say(f"wrote {target.name}: {len(passes):,} backward pass{'es' if len(passes) > 1 else ''} explained")
    raise typer.Exit(exit_code)


def _format(name: str | None, output: str, *, latex: bool) -> Plugin[Any]:
    if name is not None or latex or output == "-":
        return EXPLANATIONS[name or ("latex" if latex else "text")]
    found = EXPLANATIONS.for_suffix(output)
    if found is None:
        endings = [suffix for each in EXPLANATIONS for suffix in EXPLANATIONS[each].suffixes]
        raise UnknownNameError.of("file ending", Path(output).suffix, endings)
    return found


def _chosen(recorded: Recorded, number: str, keep: frozenset[int] | None) -> tuple[list[BackwardPass], int]:
    """Return the passes to explain (for the last one, also those whose backward made its nodes) and the exit code."""
    trace = recorded.trace
    if not trace.passes and recorded.exit_code:
        say("the script ended before any backward pass, so there is nothing to explain")
        raise typer.Exit(recorded.exit_code)
    if keep is None:
        return list(trace.passes) or [select(trace)], recorded.exit_code
    if keep:
        return recorded.numbered(keep)
    last = select(trace, number)
    wanted = {last.index}
    for graph in reversed(trace.passes):  # the graph of a third derivative was made by the pass of the second
        if graph.index in wanted:
            wanted |= {node.origin.pass_index for node in graph.nodes if node.origin}
    return [graph for graph in trace.passes if graph.index in wanted], recorded.exit_code


def _told(graph: BackwardPass, order: int, look: tuple[Plugin[Any], int], table: Table) -> str:
    from gradtrace.explain.explanation import explain

    plugin, width = look
    told: str = plugin.function(explain(graph, order, table), width)
    wrong = "".join(_finding(finding) for finding in wrong_gradient(graph, Thresholds()))
    return told + "".join(f"% {line}\n" for line in wrong.splitlines()) if plugin.name == "latex" else told + wrong


def _finding(finding: Finding) -> str:
    where = f" ({location(finding.source)})" if finding.source else ""
    return f"{finding.check}: {finding.message}{where}\n  {finding.hint}\n"
