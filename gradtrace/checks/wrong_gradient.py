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
    wrong = [found for found in graph.comparisons if found.agrees is False]
    ops = [found for found in wrong if found.of == "function"]
    for found in ops or wrong:
        node = graph.by_id[found.node]
        yield Finding(
            check="wrong-gradient",
            severity="error" if ops else "warning",
            message=_message(graph, node, found),
            hint=_HINT if ops else "no op alone is wrong: look at what happens to the gradient between them",
            nodes=tuple(dict.fromkeys((found.node, found.target))),
            source=found.backward or node.source,
            pass_index=graph.index,
        )


def _message(graph: BackwardPass, node: Node, found: Comparison) -> str:
    target = graph.by_id[found.target]
    to = target.name or (target.source.text if target.source else "") or target.op
    what = f"the gradient of {to}" if found.of == "leaf" else f"the gradient that {node.op} sends to {to}"
    how = f"is {factor_in_words(found.factor)} the true one" if found.factor is not None else "is not the true one"
    numbers = ""
    if found.autograd is not None and found.numeric is not None:
        numbers = f": autograd {_short(found.autograd)}, finite differences {_short(found.numeric)}"
    return f"{what} {how}{numbers}"


def factor_in_words(factor: float) -> str:
    """Return a factor as one says it.

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
