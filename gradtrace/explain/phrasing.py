"""Valuess and comparisons of an explanation, in a few words each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.wording.numbers import number
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.explain.chain import Term
    from gradtrace.explain.derivation import Equation
    from gradtrace.model import BackwardPass, Comparison, Node, TensorStats

__all__ = ["arrived", "by_autograd", "checked", "compared", "held", "local", "symbol"]

MOST_VALUES = 4  # elements that are written out


def arrived(graph: BackwardPass, node: Node) -> TensorStats | None:
    """Return the gradient that arrived at a leaf, or what was sent to it where that was not recorded."""
    into = graph.edges_into[node.id]
    return node.grads[0] if node.grads and node.grads[0] is not None else into[0].grad if into else None


def by_autograd(line: Equation) -> str:
    """Return what autograd computed: the number, or how far it is from the formula's."""
    if line.autograd is None:
        return ""
    number_ = line.number
    if number_ is not None and number_.agrees and number_.elements > MOST_VALUES:
        how = f"agrees to {number(number_.error)}" if number_.error else "agrees exactly"
        return f"{how} in {number_.elements:,} elements"
    return held(line.autograd)


def compared(comparison: Comparison) -> str:
    """Return what finite differences say, in a few words: the number, or how far it is off."""
    if comparison.agrees is None:
        return f"not compared: {comparison.note}"
    note = f" ({comparison.note})" if comparison.note else ""
    how = (
        f"{comparison.elements} element{'s' if comparison.elements > 1 else ''}"
        if comparison.elements
        else f"{comparison.directions} random directions"
    )
    if isinstance(comparison.numeric, (int, float)):
        return f"{comparison.numeric:#.4g}{'' if comparison.agrees else ' WRONG'}{note}"
    word = "agree to" if comparison.agrees else "DISAGREE by"
    return f"{word} {number(comparison.error)} in {how}{note}"


def checked(graph: BackwardPass) -> Iterator[str]:
    """Yield the comparison of each op alone with finite differences: how many, how closely, and what was left out."""
    of_ops = [each for each in graph.comparisons if each.of == "function"]
    done = [each for each in of_ops if each.agrees is not None]
    if done:
        wrong = sum(each.agrees is False for each in done)
        steps_ = [each.step for each in done if each.step is not None]
        error, allowed = (max(filter(None, values), default=0.0) for values in _errors(done))
        step = " to ".join(dict.fromkeys((number(min(steps_)), number(max(steps_)))))
        verdict = f"{wrong} WRONG" if wrong else "all agree" if len(done) > 1 else "it agrees"
        yield ""
        gradients = f"{len(done):,} gradient{'' if len(done) == 1 else 's'}"
        yield f"each op alone, by finite differences: {gradients} compared, {verdict}"
        yield f"    step {step}, largest error {number(error)}, tolerance up to {number(allowed)}"
    for note in dict.fromkeys(each.note for each in of_ops if each.note):
        ops = dict.fromkeys(graph.by_id[each.node].op for each in of_ops if each.note == note)
        yield f"    {', '.join(ops)}: {note}"


def _errors(done: list[Comparison]) -> tuple[list[float | None], list[float | None]]:
    return [each.error for each in done], [each.tolerance for each in done]


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
        return one_line(stats.note or stats.dtype)
    sizes = f"({stats.shape[0]})" if len(stats.shape) == 1 else "×".join(map(str, stats.shape))
    return f"{sizes} ‖{number(stats.norm)}‖".lstrip()


def symbol(graph: BackwardPass, name: str) -> str:
    """Return what the gradient of something is called: ∂f/∂v, or its gradient where there are more outputs."""
    outputs = [node for node in graph.nodes if node.kind == "output"]
    return f"∂{outputs[0].name or 'f'}/∂{name}" if len(outputs) == 1 else f"gradient of {name}"


def local(term: Term) -> str:
    """Return the local derivative: as a formula, with values put in, and as a number."""
    if not term.local:
        slope = f"local {number(term.number)}" if term.number is not None else ""
        return "   ".join(filter(None, (term.formula, slope)))
    shown = [term.formula] if term.formula != term.local or term.number is None else []
    chain = [term.local]
    chain += [term.filled] if term.filled != term.local else []
    if term.number is not None and number(term.number) != chain[-1]:
        chain.append(number(term.number))
    return "   ".join([*shown, f"local {' = '.join(chain)}"])
