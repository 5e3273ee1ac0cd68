"""The cards of what is folded, with their sparkline; and what a box says of its leaves and findings."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.drawing.cards import badge
from gradtrace.drawing.cells import bold, chip, row, small, table
from gradtrace.drawing.fold_wording import content, counted_findings, curve_ends, flow, inside, made_by, names
from gradtrace.drawing.palette import BORDER, CARD, LINE, SPECIAL, step
from gradtrace.fold.gradient_summary import joined
from gradtrace.model import TensorStats
from gradtrace.wording.numbers import number, shape, stats
from gradtrace.wording.phrases import gradient
from gradtrace.wording.quoting import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.drawing.cards import Context
    from gradtrace.fold import Box
    from gradtrace.model import BackwardPass, Node

__all__ = ["badges", "fold_card", "leaf_rows"]

LONGEST, LONGEST_NAME = 56, 30  # characters
MOST_LEAVES = 4  # that get a row each
COLUMNS, HEIGHT = 40, 26  # of a sparkline: bars, and points from the smallest to the largest
LEAST_SPAN = 1.0  # decades that a sparkline's height stands for, so that noise looks like noise
INNER = '<table border="0" cellborder="0" cellspacing="0" cellpadding="1">'
STYLES = {"run": ("rounded", 3), "module": ("rounded", 2), "chain": ("rounded", 1), "stretch": ("rounded,dashed", 2)}


def fold_card(box: Box, graph: BackwardPass, context: Context) -> str:
    """Return a fold's label: what it is, gradient in, the curve along a run, gradient out, extremes, findings."""
    title, what = names(box, graph)
    summary = box.summary
    small_print = [
        shorten(text, LONGEST) for text in (f"{what} · {content(box)}" if what else content(box), made_by(box, graph))
    ]
    rows = [row(bold(title)), *(row(small(text)) for text in small_print if text)]
    rows.append(chip(summary.arrived.stats, flow(summary.arrived, "in"), context.scale))
    if len(summary.curve) > 2:  # noqa: PLR2004 - in and out say as much
        rows.append(row(_sparkline(box, context)))
    if summary.left.tensors:
        rows.append(chip(summary.left.stats, flow(summary.left, "out"), context.scale))
    if inside(box) and (box.kind != "chain" or summary.broken or summary.zero):
        rows.append(row(small(inside(box))))
    rows += [*badges(box), *leaf_rows(box, graph, context)]
    style, width = STYLES[box.kind]
    return table(
        rows, f'border="{width}" style="{style}" color="{BORDER["function"]}" bgcolor="{CARD}" cellspacing="2"'
    )


def badges(box: Box, beside: str = "") -> Iterator[str]:
    """Yield a row for each kind of finding in a box, but for those of the node whose card says them itself."""
    others = tuple(finding for finding in box.findings if beside not in finding.nodes)
    for severity, words in counted_findings(replace(box, findings=others)):
        yield badge(severity, words)


def leaf_rows(box: Box, graph: BackwardPass, context: Context) -> Iterator[str]:
    """Yield a row for each leaf that is drawn in a box, or one for all where they are many."""
    leaves = [graph.by_id[leaf] for leaf in box.leaves]
    if not leaves:
        return
    if len(leaves) > MOST_LEAVES:
        together = joined([leaf.grads[0] if leaf.grads else None for leaf in leaves])
        yield _pair(
            f"{len(leaves)} leaves",
            flow(together, "grad").replace(f", {len(leaves)} tensors", ""),
            together.stats,
            context,
        )
        return
    for leaf in leaves:
        grad = leaf.grads[0] if leaf.grads else None
        symbol = gradient(leaf, context.of)
        uses = context.copies.get(leaf.id, 1)
        text = f"{symbol} {_briefly(grad)}" if grad else f"no {symbol.rstrip(' =')}"
        text += f", .grad {_briefly(leaf.accumulated)}" if leaf.accumulated else ""
        text += f", reduced {_briefly(leaf.reduced)}" if leaf.reduced is not None else ""
        yield _pair(_leaf_name(leaf), f"{text}{f', of {uses} boxes' if uses > 1 else ''}", grad, context)


def _briefly(grad: TensorStats) -> str:
    """Return a gradient's value or values, or of what these are too many its shape and norm."""
    text = stats(grad)
    return f"{shape(grad.shape)} ‖{number(grad.norm)}‖" if "…" in text else text


def _leaf_name(leaf: Node) -> str:
    value = leaf.values[0] if leaf.values else None
    name = shorten(one_line(leaf.name), LONGEST_NAME)
    if value is None:
        return name or "leaf"
    return f"{name} = {stats(value)}" if name and not value.shape else name or shape(value.shape)


def _pair(left: str, right: str, grad: TensorStats | None, context: Context) -> str:
    cells = (
        f'<td align="left"><font color="{BORDER["leaf"]}" point-size="9">{bold(left)}</font></td><td width="4"></td>'
    )
    right_cell = chip(grad, right, context.scale).removeprefix("<tr>").removesuffix("</tr>")
    return f"<tr><td>{INNER}<tr>{cells}{right_cell}</tr></table></td></tr>"


def _sparkline(box: Box, context: Context) -> str:
    """Return the norm along a run as bars on a logarithmic scale of its own, between its first and last value."""
    points = _sampled(box.summary.curve)
    known = [math.log10(p) for p in box.summary.curve if p and not math.isnan(p)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    widening = max(0.0, LEAST_SPAN - (high - low)) / 2
    bars = [_bar(p, low - widening, high + widening, context) for p in points]
    first, last = (f"<td>{small(text)}</td>" for text in curve_ends(box))
    return f"{INNER}<tr>{first}{''.join(bars)}{last}</tr></table>"


def _bar(p: float | None, low: float, high: float, context: Context) -> str:
    if p is None or math.isnan(p):
        color, height = SPECIAL["none" if p is None else "nan"], 1 if p is None else HEIGHT
    elif p == 0:
        color, height = SPECIAL["zero"], 1
    else:
        share = context.scale.share(TensorStats((), norm=p))
        color, height = step(share, LINE), max(2, round(HEIGHT * (math.log10(p) - low) / (high - low)))
    size = 'fixedsize="true" width="3" height='
    above = f'<tr><td {size}"{HEIGHT - height}"></td></tr>' if height < HEIGHT else ""
    inner = f'{above}<tr><td {size}"{height}" bgcolor="{color}"></td></tr>'
    return f'<td cellpadding="0"><table border="0" cellborder="0" cellspacing="0" cellpadding="0">{inner}</table></td>'


def _sampled(curve: Sequence[float | None]) -> list[float | None]:
    """Return at most so many points as there are bars: first and last, and between them of each part its worst."""
    if len(curve) <= COLUMNS:
        return list(curve)
    bounds = [1 + i * (len(curve) - 2) // (COLUMNS - 2) for i in range(COLUMNS - 1)]
    return [curve[0], *(_worst(curve[a:b]) for a, b in pairwise(bounds)), curve[-1]]


def _worst(part: Sequence[float | None]) -> float | None:
    """Return what must not be missed: not a number, or else the middle one."""
    broken = [p for p in part if p is not None and math.isnan(p)]
    return broken[0] if broken else part[len(part) // 2]
