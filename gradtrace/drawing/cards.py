"""The cards of the picture, in Graphviz's HTML-like labels: one for each node, and the heading with its legend."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.drawing.cells import alarm, bold, chip, row, small, table
from gradtrace.drawing.palette import BORDER, CARD, FAILED, FILL, INVERSE, MONO, SPECIAL, WARNED, step
from gradtrace.graph import origin
from gradtrace.model import ErrorInfo, Finding, TensorStats
from gradtrace.wording.numbers import GradientKind, Scale, kind, number, shape, stats
from gradtrace.wording.phrases import accumulated, derivative_of, expression, gradient, positions
from gradtrace.wording.quoting import escaped, one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradtrace.model import Node

__all__ = ["Context", "badge", "card", "crossing", "heading", "kept"]

LONGEST_CODE, LONGEST_LINE, LONGEST_PLACE, LONGEST_SMALL = 36, 32, 40, 48  # characters
BADGES = {"error": ("×", FAILED), "warning": ("!", WARNED), "info": ("i", SPECIAL["zero"])}
MOST_ROWS = 4  # forward outputs that get a row each
SAMPLES: dict[GradientKind, str] = {"none": "– – no gradient", "zero": "· · · zero", "inf": "▬ inf", "nan": "═ nan"}


class Context(Struct, frozen=True):
    """Facts of a pass that its cards show: what is differentiated, the scale, how often a leaf is drawn, the error."""

    of: str
    scale: Scale
    copies: dict[str, int]
    error: ErrorInfo | None = None
    findings: tuple[Finding, ...] = ()


def card(node: Node, context: Context, more: Sequence[str] = ()) -> str:
    """Return a node's label: what it is, what made it and its value, its gradient, its failure, ``more``, its place."""
    error = context.error if context.error and context.error.node == node.id else None
    head = _function(node) if node.kind == "function" else _tensor(node)
    rows = [*head, *_formula(node), *_gradients(node, context), *_failure(error)]
    rows += [*_badges(node, context.findings), *more, *_place(node)]
    uses = context.copies.get(origin(node.id), 1)
    rows += [row(small(f"in all, drawn beside each of its {uses} uses"))] if uses > 1 else []
    color, width = (FAILED, 3) if error else (BORDER[node.kind], 1 if node.kind == "function" else 2)
    style = "rounded,dashed" if node.kind == "function" and node.order is None and not error else "rounded"
    return table(rows, f'border="{width}" style="{style}" color="{color}" bgcolor="{CARD}" cellspacing="2"')


def heading(title: str, lines: Iterable[str], scale: Scale, kinds: Iterable[GradientKind]) -> str:
    """Return the picture's title, lines in small print, and under them a legend of what occurs in it."""
    cells = [bold(title), *(small(line) for line in lines if line), "".join(_legend(scale, set(kinds)))]
    rows = [row(cell, 'align="left"') for cell in cells if cell]
    return table([*rows, '<tr><td height="12"></td></tr>'], 'border="0" cellspacing="0"')


def crossing(number_of: int, text: str) -> str:
    """Return the label of the end of a line that goes on in another column."""
    rows = [row(bold(str(number_of))), row(small(text))]
    return table(rows, f'border="1" style="rounded" color="{SPECIAL["none"]}" bgcolor="{CARD}" cellspacing="0"')


def kept(node: Node, *, attributes: int, saved: bool) -> Iterator[str]:
    """Yield small rows for what a node keeps for its backward: its attributes and its tensors, where asked for."""
    if attributes:
        for key, value in sorted(node.attributes.items()):
            yield row(small(f"{key} = {shorten(one_line(str(value)), attributes)}"))
    if saved:
        for each in node.saved:
            yield row(small(f"saved {each.name} {shape(each.shape) if each.shape else 'scalar'} {each.dtype}"))


def _function(node: Node) -> Iterator[str]:
    yield row(bold(shorten(one_line(node.op), LONGEST_LINE)))
    code = shorten(expression(node), LONGEST_CODE)
    name = f"{bold(shorten(one_line(node.name), LONGEST_LINE))}{' = ' if code else ''}" if node.name else ""
    code_text = f'<font face="{MONO}">{escaped(code)}</font>' if code else ""
    code_text = f"{derivative_of(node)}{code_text}" if code else ""
    values = [stats(value) for value in node.values]
    if len(values) == 1 and node.values[0] is not None:
        yield from _equation(f"{name}{code_text}", values[0], len(derivative_of(node)) + len(code) + len(node.name))
        return
    if name or code:
        yield row(f"{name}{code_text}")
    if any(value is not None for value in node.values):
        yield from (row(f"[{i}] = {escaped(text)}") for i, text in enumerate(values[:MOST_ROWS]))


def _formula(node: Node) -> Iterator[str]:
    if node.formula:
        yield row(small(shorten(f"sends {one_line(node.formula)}", LONGEST_SMALL)))


def _tensor(node: Node) -> Iterator[str]:
    value = node.values[0] if node.values else None
    name = shorten(one_line(node.name), LONGEST_SMALL) or (shape(value.shape) if value and value.shape else node.kind)
    text = stats(value) if value else ""
    yield from _equation(bold(name), text, len(name)) if text else [row(bold(name))]


def _equation(left: str, value: str, length: int) -> Iterator[str]:
    """Yield ``left = value`` in one row, or in two where the characters of both are too many for one."""
    if length and length + len(value) > LONGEST_LINE:
        yield row(left)
        yield row(f"= {escaped(value)}")
    else:
        yield row(f"{left}{' = ' if length else ''}{escaped(value)}")


def _gradients(node: Node, context: Context) -> Iterator[str]:
    ran = node.kind != "function" or node.order is not None or (context.error and context.error.node == node.id)
    called = gradient(node, context.of)
    for i, grad in enumerate(node.grads[:MOST_ROWS]):
        which = f"{called}[{i}]" if len(node.grads) > 1 else called
        text = f"{which} {stats(grad)}" if grad or len(node.grads) > 1 else f"no {called.rstrip(' =')}"
        text += accumulated(node)
        yield chip(grad, f"{text}{'' if grad or ran else ', never ran'}", context.scale)
    if node.reduced is not None:
        yield chip(node.reduced, f"reduced {stats(node.reduced)}", context.scale)
    rest = node.grads[MOST_ROWS:]
    if rest:
        bad = sum(kind(grad) in {"nan", "inf"} for grad in rest)
        yield row(small(f"{len(rest)} more, {bad} of them not finite" if bad else f"{len(rest)} more"))


def _failure(error: ErrorInfo | None) -> Iterator[str]:
    if error is None:
        return
    yield alarm(f"raised {one_line(error.type)}", FAILED)
    lines = wrap(one_line(error.message), LONGEST_SMALL, max_lines=3, placeholder=" …")
    if lines:
        yield row("<br/>".join(small(line, FAILED) for line in lines))


def _badges(node: Node, findings: tuple[Finding, ...]) -> Iterator[str]:
    """Yield a row for each finding that names this node first: its sign, and the name of the check."""
    severities = {f.check: f.severity for f in findings if f.nodes and f.nodes[0] == origin(node.id)}
    yield from (badge(severity, name) for name, severity in severities.items())


def badge(severity: str, words: str) -> str:
    """Return the row of a finding."""
    sign, color = BADGES[severity]
    text = f'<font color="{INVERSE}">{bold(f"{sign} {words}")}</font>'
    return row(text, f'bgcolor="{color}" style="rounded"')


def _place(node: Node) -> Iterator[str]:
    texts = [shorten(one_line(text), LONGEST_SMALL) for text in (node.module, positions(node)) if text]
    together = " · ".join(texts)
    yield from (row(small(text)) for text in ([together] if 0 < len(together) <= LONGEST_PLACE else texts))


def _between(scale: Scale) -> Sequence[str]:
    """Return the colours from that of the smallest gradient to that of the largest: one where all are alike."""
    low, high = (FILL.index(step(scale.share(TensorStats((), norm=norm)), FILL)) for norm in (scale.low, scale.high))
    return FILL[low : high + 1]


def _legend(scale: Scale, kinds: set[GradientKind]) -> Iterator[str]:
    gap = "   " if "finite" in kinds else ""
    if "finite" in kinds:
        low, high = number(scale.low), number(scale.high)
        yield small(f"gradient {low} ")
        yield from (f'<font point-size="9" color="{color}">■ </font>' for color in _between(scale))
        if low != high:
            yield small(f"{high}, thicker is larger" if len(_between(scale)) > 1 else high)
    for what, text in SAMPLES.items():
        if what in kinds:
            yield small(f"{gap}{text}", SPECIAL[what])
            gap = "   "
