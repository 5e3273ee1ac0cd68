"""Values, places and comparisons of an explanation, in a few words each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from gradtrace.explain.chain import Term
    from gradtrace.explain.derivation import Equation
    from gradtrace.model import BackwardPass, Comparison, TensorStats

__all__ = ["by_autograd", "compared", "held", "local", "symbol"]

MOST_VALUES = 4  # elements that are written out


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
