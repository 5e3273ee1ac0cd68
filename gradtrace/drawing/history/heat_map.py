"""Heat map of a history as SVG: a row for each leaf, a column for each stretch of passes, the loss above it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from gradtrace.drawing.palette import DARK, FILL, FONT, INK, LINE, MUTED, PAGE, SPECIAL, step
from gradtrace.history import pass_rows, sampled
from gradtrace.wording.numbers import number
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import LeafSeries, Trace

__all__ = ["COLUMNS", "ENDS", "Grid", "grid_of", "heat_map"]

COLUMNS = 240
WIDTH, NAMES, CELL, TOP = 960, 230, 14, 120  # px: of the picture, of the names; height of a row, and above the rows
LONGEST = 34  # characters of a name
BANDS = 24  # shades of the scale
RAMP = tuple(f"h{band}" for band in range(BANDS))
ENDS = FILL[0], LINE[-1]  # of the scale
STATES = {"zero": SPECIAL["zero"], "unreached": SPECIAL["none"], "not finite": SPECIAL["nan"]}


class Grid(NamedTuple):
    """Content of a heat map: the first pass of each column, the leaves with their cells, the ends of the scale."""

    passes: list[int]
    leaves: list[tuple[LeafSeries, list[tuple[str, float]]]]
    low: float
    high: float
    losses: list[float | None]
    last: int

    def share(self, norm: float) -> float:
        """Return where a norm stands on the logarithmic scale, 0 to 1."""
        return math.log(norm / self.low) / math.log(self.high / self.low) if self.high > self.low else 0.5


def grid_of(trace: Trace, columns: int = COLUMNS) -> Grid:
    """Return the cells of a history: of the passes in a column the largest norm, and NaN before all else."""
    indices = sorted({index for series in trace.series for index in series.passes})
    chosen = [indices[at * len(indices) // columns] for at in range(columns)] if len(indices) > columns else indices
    leaves = [(series, sampled(series, chosen)) for series in trace.series]
    norms = [norm for _, cells in leaves for state, norm in cells if state == "finite" and norm > 0]
    known = pass_rows(trace)
    losses = [known[index].loss if index in known else None for index in chosen]
    ends = min(norms, default=1.0), max(norms, default=1.0)
    return Grid(chosen, leaves, *ends, losses, indices[-1] if indices else 0)


def heat_map(trace: Trace, title: str) -> str:
    """Return the heat map of a trace's series as SVG, legible on a light page and on a dark one."""
    grid = grid_of(trace)
    height = TOP + CELL * len(grid.leaves) + 60
    words = escape(one_line(title))
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gradtrace" role="img" aria-label={quoteattr(one_line(title))} '
        f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'style="max-width:100%;height:auto;font-family:{FONT}">'
    )
    parts = [
        opening,
        f"<title>{words}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        f'<text class="ink" x="12" y="22" font-size="15" font-weight="bold">{words}</text>',
        *_loss(grid),
        *_rows(grid),
        *_axis(grid, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _style() -> str:
    """Return the style sheet: the ramp goes from pale to strong on a light page, from dim to bright on a dark one."""
    pale, strong = ENDS
    light = {f"h{band}": _mixed(pale, strong, band / (BANDS - 1)) for band in range(BANDS)}
    dark = {f"h{band}": _mixed(DARK[pale], DARK[strong], band / (BANDS - 1)) for band in range(BANDS)}
    named = {"page": PAGE, "ink": INK, "muted": MUTED, **{_class(state): color for state, color in STATES.items()}}
    rules = "".join(f".{name}{{fill:{color}}}" for name, color in (named | light).items())
    rules += f".line{{stroke:{LINE[2]};fill:none;stroke-width:1.5}}"
    swapped = "".join(f".{name}{{fill:{DARK.get(color, color)}}}" for name, color in named.items())
    swapped += "".join(f".{name}{{fill:{color}}}" for name, color in dark.items())
    return f"{rules}@media (prefers-color-scheme:dark){{{swapped}.line{{stroke:{DARK[LINE[2]]}}}}}"


def _mixed(pale: str, strong: str, share: float) -> str:
    ends = [[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in (pale, strong)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


def _class(state: str) -> str:
    return state.replace(" ", "-")


def _x(grid: Grid, column: float) -> float:
    return NAMES + (WIDTH - NAMES - 20) * column / max(len(grid.passes), 1)


def _rows(grid: Grid) -> Iterator[str]:
    """Yield the names, and one path for all cells of a colour: a rectangle for each would be ten times the file."""
    paths: dict[str, list[str]] = {}
    for row, (series, cells) in enumerate(grid.leaves):
        y = TOP + CELL * row
        name = one_line(series.name) or "(no name)"
        shown = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
        yield f'<text class="ink" x="{NAMES - 8}" y="{y + 11}" font-size="11" text-anchor="end">{escape(shown)}</text>'
        for column, (state, norm) in enumerate(cells):
            if state != "none":
                color = step(grid.share(norm), RAMP) if state == "finite" else _class(state)
                left, right = _x(grid, column), _x(grid, column + 1)
                box = f"M{left:.4g},{y}h{right - left:.3g}v{CELL - 1}h{left - right:.3g}z"
                paths.setdefault(color, []).append(box)
    for color, boxes in paths.items():
        yield f'<path class="{color}" shape-rendering="crispEdges" d="{"".join(boxes)}"/>'


def _loss(grid: Grid) -> Iterator[str]:
    """Yield the curve of the loss, broken where it is not known or not finite."""
    known = [loss for loss in grid.losses if loss is not None and math.isfinite(loss)]
    if not known:
        return
    low, high = min(known), max(known)
    points, broken, pen = "", "", "M"
    for column, loss in enumerate(grid.losses):
        if loss is None or not math.isfinite(loss):
            pen = "M"
            left, right = _x(grid, column), _x(grid, column + 1)
            broken += "" if loss is None else f"M{left:.4g},{TOP - 17}h{right - left:.3g}v3h{left - right:.3g}z"
            continue
        share = (loss - low) / (high - low) if high > low else 0.5
        points += f"{pen}{_x(grid, column + 0.5):.4g},{TOP - 14 - 60 * share:.4g}"
        pen = "L"
    if broken:
        yield f'<path class="not-finite" d="{broken}"/>'
    yield f'<path class="line" d="{points}"/>'
    for text, y in ((number(high), TOP - 70), (f"loss {number(low)}", TOP - 10)):
        yield f'<text class="muted" x="{NAMES - 8}" y="{y}" font-size="11" text-anchor="end">{text}</text>'


def _axis(grid: Grid, height: int) -> Iterator[str]:
    y = height - 44
    if grid.passes:
        ends = ((f"pass {grid.passes[0]:,}", NAMES, "start"), (f"pass {grid.last:,}", WIDTH - 20, "end"))
        for text, x, anchor in ends:
            yield f'<text class="muted" x="{x}" y="{y}" font-size="11" text-anchor="{anchor}">{text}</text>'
    shown = {_class(state) for _, cells in grid.leaves for state, _ in cells}
    x, y = 12, height - 22
    for band in range(BANDS):
        yield f'<rect class="h{band}" x="{x + 5 * band}" y="{y}" width="5" height="11"/>'
    text = f"gradient norm, {number(grid.low)} to {number(grid.high)}, logarithmic"
    yield f'<text class="muted" x="{x + 5 * BANDS + 6}" y="{y + 10}" font-size="11">{text}</text>'
    x = 470
    for state, word in (("zero", "zero"), ("unreached", "not reached"), ("not-finite", "NaN or infinity")):
        if state in shown:
            yield f'<rect class="{state}" x="{x}" y="{y}" width="11" height="11"/>'
            yield f'<text class="muted" x="{x + 16}" y="{y + 10}" font-size="11">{word}</text>'
            x += 120
