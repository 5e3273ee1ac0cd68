"""Backwards that are not the derivative of their forward, by the finite differences that a trace holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.checks.base import check
from gradtrace.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.checks.base import Thresholds
    from gradtrace.model import BackwardPass, Comparison, Node, Values

__all__ = ["factor_in_words", "wrong_gradient"]

_WORDS = {2.0: "twice", -2.0: "minus twice", 0.5: "half", -0.5: "minus half", -1.0: "minus", 3.0: "three times"}
_CLOSE = 2e-3
_HINT = "make its backward the derivative of its forward; if it differs on purpose (straight-through), ignore this"


@check("wrong-gradient")
def wrong_gradient(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """An op whose backward is not the derivative of its forward, by finite differences (--numeric).

    One wrong op makes every gradient after it wrong, so the ops are what is reported; a leaf is reported
    only where it is wrong and no op is, for then something between the ops has changed the gradient.
    """
    wrong = [comparison for comparison in graph.comparisons if comparison.agrees is False]
    ops = [comparison for comparison in wrong if comparison.of == "function"]
    for comparison in ops or wrong:
        node = graph.by_id[comparison.node]
        yield Finding(
            check="wrong-gradient",
            severity="error" if ops else "warning",
            message=_message(graph, node, comparison),
            hint=_HINT if ops else "no op alone is wrong: look at what happens to the gradient between them",
            nodes=tuple(dict.fromkeys((comparison.node, comparison.target))),
            source=comparison.backward or node.source,
            pass_index=graph.index,
        )


def _message(graph: BackwardPass, node: Node, comparison: Comparison) -> str:
    target = graph.by_id[comparison.target]
    to = target.name or (target.source.text if target.source else "") or target.op
    what = f"the gradient of {to}" if comparison.of == "leaf" else f"the gradient that {node.op} sends to {to}"
    how = (
        f"is {factor_in_words(comparison.factor)} the true one"
        if comparison.factor is not None
        else "is not the true one"
    )
    numbers = ""
    if comparison.autograd is not None and comparison.numeric is not None:
        numbers = f": it is {_short(comparison.autograd)}, the true one is {_short(comparison.numeric)}"
    elif comparison.worst is not None:
        of = f"{comparison.directions} directions" if comparison.directions else f"{comparison.elements} elements"
        numbers = f": in the worst of {of} it is {comparison.worst[0]:.4g}, the true one is {comparison.worst[1]:.4g}"
    return f"{what} {how}{numbers}"


def factor_in_words(factor: float) -> str:
    """Return a factor in words.

    >>> factor_in_words(2.0003), factor_in_words(-1.0), factor_in_words(0.0), factor_in_words(1.7)
    ('twice', 'minus', '0 times', '1.7 times')
    """
    for known, word in _WORDS.items():
        if abs(factor - known) <= _CLOSE * abs(known):
            return word
    return f"{0.0 if abs(factor) < _CLOSE else factor:.4g} times"


def _short(values: Values) -> str:
    if isinstance(values, list):
        return f"[{', '.join(_short(value) for value in values)}]"
    return f"{values:.4g}" if isinstance(values, float) else str(values)
