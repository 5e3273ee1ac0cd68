"""An explanation as plain text, for the terminal: the derivation, then the chain rule node by node."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.explain.chain import Flow, Meeting, Step, called, steps
from gradtrace.explain.formulas import Table, pinned
from gradtrace.explain.layout import Row, beside, derivation, wrapped
from gradtrace.explain.notation import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.derivation import Line
    from gradtrace.model import BackwardPass, Comparison, Node, Source, TensorStats

__all__ = ["Explanation", "by_autograd", "compared", "explain", "held", "local", "place", "symbol", "text"]

WIDEST = 100  # columns, where no terminal says how many it has
NO_CALLS = "no formula of the whole: the trace holds no calls (record --calls keeps them; torch.compile hides them)"
LONGEST = 24  # characters of the code that a gradient goes to
MOST_VALUES = 4  # elements that are written out


class Explanation(Struct, frozen=True):
    """One pass, explained: the derivation (where its calls were recorded), and the chain rule."""

    graph: BackwardPass
    lines: tuple[Line, ...]
    steps: tuple[Step, ...]
    title: str = ""
    notes: tuple[str, ...] = ()


def explain(graph: BackwardPass, order: int = 1, table: Table | None = None) -> Explanation:
    """Return the explanation of a pass, with derivatives up to this order and the formulas of this table."""
    notes = []
    lines: list[Line] = []
    try:
        from gradtrace.explain.derivation import derive  # noqa: PLC0415 - sympy takes a quarter of a second
    except ImportError:
        notes.append("no formulas of the whole: they need sympy, which comes with torch")
    else:
        lines = derive(graph, order)
    if not graph.forward:
        notes.append(
            "no formula of the whole: the trace holds no calls (record --calls keeps them; torch.compile hides them)"
        )
    elif not lines and not notes:
        notes.append(f"no formula of the whole: {len(graph.forward):,} calls are too many to write out")
    found = steps(graph, table or pinned())
    return Explanation(graph, tuple(lines), tuple(found), _title(graph), tuple(notes))


def text(explanation: Explanation, width: int = WIDEST) -> str:
    """Return the explanation as lines of text, not wider than ``width`` columns where they can be broken."""
    notes = [f"({note})" for note in explanation.notes]
    lines = [line for note in notes for line in wrapped(note, width)]
    lines += derivation([_row(line) for line in explanation.lines], width)
    lines += [line for each in _checked(explanation.graph) for line in wrapped(each, width)]
    lines += ["", *wrapped(explanation.title, width), ""]
    for step in explanation.steps:
        lines += _step(explanation, step, width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _checked(graph: BackwardPass) -> Iterator[str]:
    """Yield what finite differences say of each op alone: how many, how closely, and what was left out."""
    of_ops = [found for found in graph.comparisons if found.of == "function"]
    done = [found for found in of_ops if found.agrees is not None]
    if done:
        wrong = sum(found.agrees is False for found in done)
        steps_ = [found.step for found in done if found.step is not None]
        error, allowed = (max(filter(None, values), default=0.0) for values in _errors(done))
        step = " to ".join(dict.fromkeys((number(min(steps_)), number(max(steps_)))))
        verdict = f"{wrong} WRONG" if wrong else "all agree"
        yield ""
        yield f"each op alone, by finite differences: {len(done)} gradients compared, {verdict}"
        yield f"    step {step}, largest error {number(error)}, tolerance up to {number(allowed)}"
    for note in dict.fromkeys(found.note for found in of_ops if found.note):
        ops = dict.fromkeys(graph.by_id[found.node].op for found in of_ops if found.note == note)
        yield f"    {', '.join(ops)}: {note}"


def _errors(done: list[Comparison]) -> tuple[list[float | None], list[float | None]]:
    return [found.error for found in done], [found.tolerance for found in done]


def _title(graph: BackwardPass) -> str:
    call = f", {graph.call.text} ({place(graph.call)})" if graph.call else ""
    return f"the chain rule in backward order: pass {graph.index}{call}"


def _row(line: Line) -> Row:
    shown = held(line.number.stats) if line.number is not None else ""
    value = f"= {shown}" if shown and shown != line.right else ""
    check = f"finite differences {compared(line.comparison)}" if line.comparison else ""
    last = place(line.source) if line.source else "THE TWO DIFFER" if line.differs else ""
    autograd = f"autograd {by_autograd(line)}" if line.autograd else ""
    return f"{line.left} = {line.right}", value, autograd, check, last


def by_autograd(line: Line) -> str:
    """Return what autograd computed: the number, or how far it is from the formula's."""
    if line.autograd is None:
        return ""
    number_ = line.number
    if number_ is not None and number_.agrees and number_.elements > MOST_VALUES:
        how = f"agrees to {number(number_.error)}" if number_.error else "agrees exactly"
        return f"{how} in {number_.elements:,} elements"
    return held(line.autograd)


def compared(found: Comparison) -> str:
    """Return what finite differences say, in a few words: the number, or how far it is off."""
    if found.agrees is None:
        return f"not compared: {found.note}"
    note = f" ({found.note})" if found.note else ""
    how = (
        f"{found.elements} element{'s' if found.elements > 1 else ''}"
        if found.elements
        else f"{found.directions} random directions"
    )
    if isinstance(found.numeric, (int, float)):
        return f"{found.numeric:#.4g}{'' if found.agrees else ' WRONG'}{note}"
    word = "agree to" if found.agrees else "DISAGREE by"
    return f"{word} {number(found.error)} in {how}{note}"


def held(stats: TensorStats | None) -> str:
    """Return what a tensor held, shortly."""
    if stats is None:
        return "none"
    if stats.nan or stats.inf:
        return "nan" if stats.nan else "inf"
    if isinstance(stats.values, (int, float)):
        return number(float(stats.values))
    if isinstance(stats.values, list) and len(stats.shape) == 1 and stats.shape[0] <= MOST_VALUES:
        return f"[{', '.join(number(float(x)) for x in stats.values if isinstance(x, (int, float)))}]"
    if stats.norm is None:
        return stats.note or stats.dtype
    return (
        f"{'×'.join(map(str, stats.shape)) if len(stats.shape) > 1 else f'({stats.shape[0]})'} ‖{number(stats.norm)}‖"
    )


def place(source: Source) -> str:
    """Return a line's file and number, as the trace tells it."""
    return f"{PurePath(source.filename).as_posix()}:{source.line}"


def symbol(graph: BackwardPass, name: str) -> str:
    """Return what the gradient of something is called: ∂f/∂v, or its gradient where there are more outputs."""
    outputs = [node for node in graph.nodes if node.kind == "output"]
    return f"∂{outputs[0].name or 'f'}/∂{name}" if len(outputs) == 1 else f"gradient of {name}"


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
    for flow in step.flows:
        target = explanation.graph.by_id[flow.edge.target]
        lines += beside(f"    out    {held(flow.edge.grad)} → {_short(called(target))}", local(flow), width)
    return [*lines, ""]


def _said(node: Node) -> str:
    source = node.library or node.source
    code = " ".join(source.text.split()) if source else ""
    names = list(dict.fromkeys(filter(None, (node.name, code))))
    return f"  {' = '.join(names)}" if names else ""


def _where(node: Node) -> str:
    where = f"  {place(node.source)}" if node.source else ""
    return f"{where}{'  (never ran)' if node.order is None else ''}"


def _leaf(explanation: Explanation, step: Step) -> list[str]:
    node = step.node
    name = node.name or "an unnamed leaf"
    left = symbol(explanation.graph, name)
    if step.meetings:
        return [f"{left} = {_sum(meeting)}" for meeting in step.meetings]
    into = explanation.graph.edges_into[node.id]
    grad = node.grads[0] if node.grads and node.grads[0] is not None else into[0].grad if into else None
    return [f"{left} = {held(grad)}"]


def _sum(meeting: Meeting) -> str:
    parts = " + ".join(f"{held(grad)} (through {name})" for grad, name in meeting.parts)
    return f"{parts} = {held(meeting.total)}" if meeting.total is not None else parts


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST // 2 - 1].rstrip()} … {name[1 - LONGEST // 2 :].lstrip()}"


def local(flow: Flow) -> str:
    """Return the local derivative: as a formula, with values put in, and as a number."""
    if not flow.local:
        slope = f"local {number(flow.number)}" if flow.number is not None else ""
        return "   ".join(filter(None, (flow.formula, slope)))
    shown = [flow.formula] if flow.formula != flow.local or flow.number is None else []
    chain = [flow.local]
    chain += [flow.filled] if flow.filled != flow.local else []
    if flow.number is not None and number(flow.number) != chain[-1]:
        chain.append(number(flow.number))
    return "   ".join([*shown, f"local {' = '.join(chain)}"])
