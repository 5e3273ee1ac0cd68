"""A pass as a table for the terminal: one line per node, in backward order."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from gradtrace.formats.base import Style, register
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import Scale, kind, number, stats
from gradtrace.wording.phrases import explained, note, positions
from gradtrace.wording.quoting import one_line
from gradtrace.wording.tables import Cell, Column, lines, paint, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.model import BackwardPass, ErrorInfo, Finding, Node, Report, TensorStats

    Written = Callable[[TensorStats | None], str]

__all__ = ["render"]

COLUMNS = (
    Column("", 1, 1),
    Column("id", 6, 6),
    Column("op", 16, 11),
    Column("expression", 28, 22),
    Column("gradient", 12, 11, 40, list=True),
    Column("", 8, 8, goes=3),
    Column("flows on to", 16, 12, goes=2, list=True),
    Column("module, line", 16, 16, 40, goes=1),
)
BAR = 8  # characters, of eight steps each
STEPS = "▏▎▍▌▋▊▉█"
MARKS = {"none": "", "zero": "·", "nan": "✗" * BAR, "inf": "✗" * BAR, "unknown": "?", "finite": ""}
STYLES = {"none": "dim", "zero": "yellow", "nan": "bold red", "inf": "bold red", "unknown": "dim", "finite": "cyan"}
WORDS = {"none": "none", "zero": "0", "nan": "nan", "inf": "inf"}
SEVERITIES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
NAME = 8  # characters of a leaf's name that a narrow table has room for beside each use
NOTES = 8  # lines of what there is to know about some nodes, and in each so many nodes
SHOWN = 3  # of a node's tensors; one op can have hundreds of outputs


@register("text", ".txt")
def render(report: Report, style: Style) -> str:
    """A table, as in the terminal: one line per node in backward order."""
    return "\n".join(_lines(report, style)) + "\n"


def _lines(report: Report, style: Style) -> Iterator[str]:
    graph = report.graph
    ordered = _sorted(graph.nodes, style.sort)
    nodes = ordered if style.rows is None else ordered[: style.rows]
    scale = Scale.of(graph)
    yield paint(shorten(_title(report), style.width or 10**6), "bold", color=style.color)
    yield ""
    rows = [_row(graph, node, scale) for node in nodes]
    columns: tuple[Column, ...] = COLUMNS
    if style.sort == "seconds":
        columns = (*COLUMNS[:2], Column("time", 8, 8), *COLUMNS[2:])
        rows = [[*row[:2], Cell(_time(node)), *row[2:]] for row, node in zip(rows, nodes, strict=True)]
    yield from lines(columns, rows, style.width, color=style.color)
    if len(nodes) < len(graph.nodes):
        yield f"… {len(graph.nodes) - len(nodes):,} more; all of them with: -o FILE.txt"
    yield from _notes(report, scale, style)


def _sorted(nodes: Sequence[Node], sort: str) -> Sequence[Node]:
    """Return the nodes in their order, or those first that took longest or got the largest gradient."""
    if sort == "order":
        return nodes
    return sorted(nodes, key=lambda node: -((node.seconds if sort == "seconds" else _largest(node)) or 0.0))


def _largest(node: Node) -> float:
    """Return the largest norm of the gradients that arrived; one that is not finite counts as infinite."""
    kept = [grad for grad in node.grads if grad is not None]
    return max((math.inf if grad.nan or grad.inf else grad.norm or 0.0 for grad in kept), default=0.0)


def _title(report: Report) -> str:
    """Return the pass's number, where it was called, and its size."""
    graph = report.graph
    parts = [
        f"pass {graph.index:,} of {report.trace.made:,}" if report.trace.made > 1 else "",
        f"rank {graph.rank} of {report.trace.world.size}" if report.trace.world is not None else "",
        "seeded by gradtrace" if graph.kind == "seeded" else "",
        one_line(graph.call.text or graph.kind) if graph.call else graph.kind.replace("seeded", ""),
        position(graph.call),
        f"inside pass {graph.parent}" if graph.parent is not None else "",
        f"{_count(len(graph.nodes), 'node')}, {_count(len(graph.edges), 'edge')}",
    ]
    return " · ".join(part for part in parts if part)


def _row(graph: BackwardPass, node: Node, scale: Scale) -> list[Cell]:
    failed = graph.error is not None and graph.error.node == node.id
    look = {"output": "bold", "leaf": "green", "function": ""}[node.kind]
    absent = "none" if node.order is not None or node.kind != "function" else "failed" if failed else "never ran"
    worst = max(node.grads, key=lambda s: (kind(s) in {"nan", "inf"}, scale.share(s), s is not None), default=None)
    return [
        Cell("✗" if failed else "", "bold red"),
        Cell(node.id, "bold red" if failed else "dim"),
        Cell(one_line(node.op if node.kind == "function" else node.kind), "bold red" if failed else look),
        Cell(_what(node, stats), look, _what(node, _short)),
        Cell(_gradient(node, stats) or absent, STYLES[kind(worst)], _gradient(node, _short) or absent),
        Cell(_bar(worst, scale), STYLES[kind(worst)]),
        Cell(_flows(graph, node), brief=_flows(graph, node, brief=True)),
        Cell("  ".join(part for part in (one_line(node.module), positions(node)) if part), "dim"),
    ]


def _time(node: Node) -> str:
    """Return the time that a node took, in milliseconds."""
    return "" if node.seconds is None else f"{1000 * node.seconds:.3f} ms"


def _what(node: Node, written: Written) -> str:
    """``h = u*v = 8``: the variable, the expression and the value, as far as they are known."""
    text = explained(node)
    name = one_line(node.name)
    values = _some([s for s in node.values if s], written)
    return " = ".join(part for part in (name, "" if text == name else text, values) if part)


def _gradient(node: Node, written: Written) -> str:
    """The gradient that arrived for each of the node's outputs, or nothing if none did; and what ``.grad`` became."""
    text = _some(node.grads, written) if any(node.grads) else ""
    text = f"{text} arrived, .grad {written(node.accumulated)}" if text and node.accumulated else text
    return f"{text}, reduced {written(node.reduced)}" if node.reduced is not None else text


def _some(tensors: Sequence[TensorStats | None], written: Written) -> str:
    more = [f"{len(tensors) - SHOWN} more"] if len(tensors) > SHOWN else []
    return ", ".join([written(s) for s in tensors[:SHOWN]] + more)


def _bar(s: TensorStats | None, scale: Scale) -> str:
    """A bar for the gradient's norm on the pass's logarithmic scale, or the mark of what has none."""
    if kind(s) != "finite":
        return MARKS[kind(s)]
    full, step = divmod(max(1, round(scale.share(s) * BAR * len(STEPS))), len(STEPS))
    return STEPS[-1] * full + (STEPS[step - 1] if step else "")


def _flows(graph: BackwardPass, node: Node, *, brief: bool = False) -> str:
    """Return the targets of a node's edges, each with the gradient along it."""
    edges = graph.edges_from[node.id]
    more = [f"{len(edges) - SHOWN} more"] if len(edges) > SHOWN else []
    target = _brief_target if brief else _target
    flows = [f"{target(graph.by_id[edge.target])} {_short(edge.grad)}" for edge in edges[:SHOWN]]
    return f"→ {', '.join(flows + more)}" if edges else ""


def _target(node: Node) -> str:
    name = one_line(node.name) if node.kind == "leaf" else one_line(node.op)
    return f"{name} ({node.id})" if node.kind == "function" else name or node.id


def _brief_target(node: Node) -> str:
    name = one_line(node.name) if node.kind == "leaf" else ""
    return name if 0 < len(name) <= NAME else node.id


def _short(s: TensorStats | None) -> str:
    """A gradient in a word: the value of a scalar, the norm of anything else."""
    if s is not None and kind(s) == "finite":
        return f"‖{number(s.norm)}‖" if s.shape and s.norm is not None else stats(s)
    return WORDS.get(kind(s)) or stats(s)


def _notes(report: Report, scale: Scale, style: Style) -> Iterator[str]:
    """Yield the legend of the bars, the notes, the findings and the errors."""
    yield ""
    if scale.low < scale.high:
        yield paint(
            f"bar: the gradient's norm, {number(scale.low)} to {number(scale.high)}, logarithmic",
            "dim",
            color=style.color,
        )
    yield from (paint(text, "dim", color=style.color) for text in _kept(report.graph))
    for finding in report.findings:
        yield from _wrapped(finding.severity, _finding(finding), style)
    for error in _errors(report):
        yield from _wrapped("error", _error(error), style)


def _kept(graph: BackwardPass) -> Iterator[str]:
    """Yield the memory that the nodes keep for backward, which keeps most, and the notes on nodes."""
    sizes = [(sum(each.bytes for each in node.saved), node) for node in graph.nodes if node.saved]
    total = sum(size for size, _ in sizes)
    if total:
        most, node = max(sizes, key=lambda pair: pair[0])
        yield f"saved for backward: {_bytes(total)}, most in {one_line(node.op)} ({node.id}): {_bytes(most)}"
    yield from _alike(graph)


def _alike(graph: BackwardPass) -> Iterator[str]:
    """Yield each note on nodes once, with all nodes that it is true of."""
    alike: dict[str, list[str]] = {}
    for node in graph.nodes:
        alike.setdefault(note(node), []).append(node.id)
    alike.pop("", None)
    for words, ids in list(alike.items())[:NOTES]:
        yield f"{', '.join(ids[:NOTES])}{f' and {len(ids) - NOTES:,} more' if len(ids) > NOTES else ''}: {words}"
    if len(alike) > NOTES:
        yield f"{len(alike) - NOTES:,} more of these are in the trace"


def _bytes(count: int) -> str:
    """A number of bytes as a person would say it."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":  # noqa: PLR2004
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _finding(finding: Finding) -> str:
    at = ", ".join(part for part in (*finding.nodes[:SHOWN], position(finding.source)) if part)
    return (
        f"{finding.check}: {finding.message}"
        + (f" ({at})" if at else "")
        + (f"; {finding.hint}" if finding.hint else "")
    )


def _errors(report: Report) -> list[ErrorInfo]:
    """The pass's error and the script's, which is the same one where nobody caught it."""
    own, last = report.graph.error, report.trace.error
    same = own and last and (own.type, own.message) == (last.type, last.message)
    return [error for error in (own, None if same else last) if error]


def _error(error: ErrorInfo) -> str:
    at = ", ".join(part for part in (error.node, position(error.source)) if part)
    return f"{error.type}: {error.message}" + (f" (at {at})" if at else "")


def _wrapped(severity: str, text: str, style: Style) -> Iterator[str]:
    mark = f"{'✗' if severity == 'error' else '!'} "
    wrapper = textwrap.TextWrapper(style.width or 100, initial_indent=mark, subsequent_indent="  ")
    wrapper.break_on_hyphens = False
    for line in wrapper.wrap(one_line(text)):
        yield paint(line, SEVERITIES[severity], color=style.color)


def _count(number_of: int, word: str) -> str:
    return f"{number_of:,} {word}{'' if number_of == 1 else 's'}"
