"""Values, places and comparisons of an explanation, in a few words each."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from gradtrace.explain.chain import Flow
    from gradtrace.explain.derivation import Line
    from gradtrace.model import BackwardPass, Comparison, Source, TensorStats

__all__ = ["by_autograd", "compared", "held", "local", "place", "symbol"]

MOST_VALUES = 4  # elements that are written out


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
