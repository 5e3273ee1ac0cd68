"""The cards of the picture, in Graphviz's HTML-like labels: one for each node, and the heading with its legend."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.formats.numbers import Kind, Scale, kind, number, shape, stats
from gradtrace.formats.palette import BORDER, CARD, FAILED, FILL, INVERSE, MUTED, SPECIAL, step
from gradtrace.formats.words import clean, escaped, expression, gradient, place, shorten
from gradtrace.graph import origin
from gradtrace.model import ErrorInfo, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.model import Node, TensorStats

__all__ = ["Context", "card", "heading", "more"]

LONGEST_CODE, LONGEST_LINE, LONGEST_SMALL = 44, 40, 56  # characters
BADGES = {"error": ("×", FAILED), "warning": ("!", SPECIAL["inf"]), "info": ("i", SPECIAL["zero"])}
MOST_ROWS = 4  # forward outputs that get a row each
SAMPLES: dict[Kind, str] = {"none": "– – no gradient", "zero": "· · · zero", "inf": "▬ inf", "nan": "═ nan"}


class Context(Struct, frozen=True):
    """What a card has to know of its pass: what is differentiated, the scale, how often a leaf is drawn, the error."""

    of: str
    scale: Scale
    copies: dict[str, int]
    error: ErrorInfo | None = None
    findings: tuple[Finding, ...] = ()


def card(node: Node, context: Context) -> str:
    """Return a node's label: what it is, what made it and its value, its gradient, its failure, its place."""
    error = context.error if context.error and context.error.node == node.id else None
    head = _function(node) if node.kind == "function" else _tensor(node)
    rows = [*head, *_formula(node), *_gradients(node, context), *_failure(error)]
    rows += [*_badges(node, context.findings), *_place(node)]
    uses = context.copies.get(origin(node.id), 1)
    rows += [_row(_small(f"in all, drawn beside each of its {uses} uses"))] if uses > 1 else []
    color, width = (FAILED, 3) if error else (BORDER[node.kind], 1 if node.kind == "function" else 2)
    style = "rounded,dashed" if node.kind == "function" and node.order is None and not error else "rounded"
    return _table(rows, f'border="{width}" style="{style}" color="{color}" bgcolor="{CARD}" cellspacing="3"')


def heading(title: str, subtitle: str, scale: Scale, kinds: Iterable[Kind]) -> str:
    """Return the picture's title, and under it a legend of what occurs in it."""
    lines = [_bold(title), _small(subtitle) if subtitle else "", "".join(_legend(scale, set(kinds)))]
    rows = [_row(line, 'align="left"') for line in lines if line]
    return _table([*rows, '<tr><td height="12"></td></tr>'], 'border="0" cellspacing="0"')


def more(hidden: int) -> str:
    """Return the label that stands for the nodes that are not drawn."""
    rows = [_row(_bold(f"{hidden:,} more nodes")), _row(_small("-f text or -f json shows all"))]
    return _table(rows, f'border="1" style="rounded,dashed" color="{SPECIAL["none"]}" cellspacing="3"')


def _function(node: Node) -> Iterator[str]:
    yield _row(_bold(node.op))
    code = shorten(expression(node), LONGEST_CODE)
    name = f"{_bold(shorten(clean(node.name), LONGEST_LINE))}{' = ' if code else ''}" if node.name else ""
    code_text = f'<font face="Menlo,Consolas,monospace">{escaped(code)}</font>' if code else ""
    values = [stats(value) for value in node.values]
    if len(values) == 1 and node.values[0] is not None:
        yield from _equation(f"{name}{code_text}", values[0], len(code) + len(node.name))
        return
    if name or code:
        yield _row(f"{name}{code_text}")
    if any(value is not None for value in node.values):
        yield from (_row(f"[{i}] = {escaped(text)}") for i, text in enumerate(values[:MOST_ROWS]))


def _formula(node: Node) -> Iterator[str]:
    if node.formula:
        yield _row(_small(shorten(f"sends {clean(node.formula)}", LONGEST_SMALL)))


def _tensor(node: Node) -> Iterator[str]:
    value = node.values[0] if node.values else None
    name = shorten(clean(node.name), LONGEST_SMALL) or (shape(value.shape) if value and value.shape else node.kind)
    text = stats(value) if value else ""
    yield from _equation(_bold(name), text, len(name)) if text else [_row(_bold(name))]


def _equation(left: str, value: str, length: int) -> Iterator[str]:
    """Yield ``left = value`` in one row, or in two where the characters of both are too many for one."""
    if length and length + len(value) > LONGEST_LINE:
        yield _row(left)
        yield _row(f"= {escaped(value)}")
    else:
        yield _row(f"{left}{' = ' if length else ''}{escaped(value)}")


def _gradients(node: Node, context: Context) -> Iterator[str]:
    ran = node.kind != "function" or node.order is not None or (context.error and context.error.node == node.id)
    called = gradient(node, context.of)
    for i, grad in enumerate(node.grads[:MOST_ROWS]):
        which = f"{called}[{i}]" if len(node.grads) > 1 else called
        text = f"{which} {stats(grad)}" if grad or len(node.grads) > 1 else f"no {called.rstrip(' =')}"
        yield _chip(grad, f"{text}{'' if grad or ran else ', never ran'}", context.scale)
    rest = node.grads[MOST_ROWS:]
    if rest:
        bad = sum(kind(grad) in {"nan", "inf"} for grad in rest)
        yield _row(_small(f"{len(rest)} more, {bad} of them not finite" if bad else f"{len(rest)} more"))


def _chip(grad: TensorStats | None, text: str, scale: Scale) -> str:
    what = kind(grad)
    if what == "finite":
        return _row(_bold(text), f'bgcolor="{step(scale.share(grad), FILL)}" style="rounded" cellpadding="3"')
    color = SPECIAL[what]
    if what in {"nan", "inf"}:
        return _alarm(text, color)
    line = {"none": "dashed", "zero": "dotted"}.get(what, "solid")
    return _row(escaped(text), f'border="1" color="{color}" style="rounded,{line}" cellpadding="3"')


def _alarm(text: str, color: str) -> str:
    return _row(f'<font color="{INVERSE}">{_bold(text)}</font>', f'bgcolor="{color}" style="rounded" cellpadding="3"')


def _failure(error: ErrorInfo | None) -> Iterator[str]:
    if error is None:
        return
    yield _alarm(f"raised {clean(error.type)}", FAILED)
    lines = wrap(clean(error.message), LONGEST_SMALL, max_lines=3, placeholder=" …")
    if lines:
        yield _row("<br/>".join(_small(line, FAILED) for line in lines))


def _badges(node: Node, findings: tuple[Finding, ...]) -> Iterator[str]:
    """Yield a row for each finding that names this node first: its sign, and the name of the check."""
    found = {f.check: f.severity for f in findings if f.nodes and f.nodes[0] == origin(node.id)}
    for name, severity in found.items():
        sign, color = BADGES[severity]
        text = f'<font color="{INVERSE}">{_bold(f"{sign} {name}")}</font>'
        yield _row(text, f'bgcolor="{color}" style="rounded"')


def _place(node: Node) -> Iterator[str]:
    texts = [shorten(clean(text), LONGEST_SMALL) for text in (node.module, place(node)) if text]
    together = " · ".join(texts)
    yield from (_row(_small(text)) for text in ([together] if 0 < len(together) <= LONGEST_LINE else texts))


def _legend(scale: Scale, kinds: set[Kind]) -> Iterator[str]:
    gap = ""
    if scale.low < scale.high:
        yield _small(f"gradient {number(scale.low)} ")
        yield from (f'<font point-size="10" color="{color}">■ </font>' for color in FILL)
        yield _small(f"{number(scale.high)}, thicker is larger")
        gap = "   "
    for what, text in SAMPLES.items():
        if what in kinds:
            yield _small(f"{gap}{text}", SPECIAL[what])
            gap = "   "


def _table(rows: Iterable[str], attributes: str) -> str:
    return f'<<table cellborder="0" cellpadding="2" {attributes}>{"".join(rows)}</table>>'


def _row(text: str, attributes: str = "") -> str:
    return f"<tr><td {attributes}>{text}</td></tr>"


def _bold(text: str) -> str:
    return f"<b>{escaped(text)}</b>"


def _small(text: str, color: str = MUTED) -> str:
    return f'<font point-size="8" color="{color}">{escaped(text)}</font>'
