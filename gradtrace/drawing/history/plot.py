"""Plot of a history by matplotlib, as PNG or PDF: the loss, the norms as lines, and the heat map."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from gradtrace.drawing.history.heat_map import ENDS, Grid, grid_of
from gradtrace.drawing.palette import LINE
from gradtrace.errors import EngineError
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from gradtrace.model import Trace

__all__ = ["plot"]

STATES = {"zero": "#64748b", "unreached": "#c4ccd6", "not finite": "#d0103a"}
MOST_LINES = 12  # curves with a name of their own


def plot(trace: Trace, title: str, kind: str) -> bytes:
    """Return the plot as a file of ``kind`` (png or pdf); raises EngineError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        hint = "pip install matplotlib, or write an .svg, which needs nothing"
        raise EngineError(f"a history as {kind} is drawn by matplotlib, which is not installed", hint) from None
    grid = grid_of(trace)
    rows = max(len(grid.leaves), 1)
    figure = Figure(figsize=(10, 5 + 0.18 * rows), layout="constrained")
    figure.suptitle(one_line(title).replace("$", r"\$"))
    loss, lines, heat = figure.subplots(3, 1, height_ratios=[1, 2, max(1.0, 0.12 * rows)])
    lines.sharex(loss)
    _curve(loss, grid)
    _lines(lines, grid)
    _heat(heat, grid)
    buffer = io.BytesIO()
    # Without the time, so that the same trace gives the same bytes.
    metadata = {"CreationDate" if kind == "pdf" else "Software": None}
    figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()


def _curve(axes: Any, grid: Grid) -> None:
    axes.plot(grid.passes, [math.nan if loss is None else loss for loss in grid.losses], color=LINE[2])
    axes.set_ylabel("loss")


def _lines(axes: Any, grid: Grid) -> None:
    for at, (series, cells) in enumerate(grid.leaves):
        norms = [norm if state == "finite" else math.nan for state, norm in cells]
        label = (one_line(series.name) or "(no name)") if at < MOST_LINES else f"_{at}"
        axes.plot(grid.passes, norms, label=label.replace("$", r"\$"), linewidth=1)
    if grid.leaves:
        axes.set_yscale("log")
        axes.legend(fontsize=7, ncols=2)
    axes.set_ylabel("gradient norm")


def _heat(axes: Any, grid: Grid) -> None:
    from matplotlib.colors import to_rgb  # noqa: PLC0415

    pale, strong = map(to_rgb, ENDS)

    def color(state: str, norm: float) -> tuple[float, ...]:
        if state != "finite":
            return to_rgb(STATES.get(state, "#ffffff"))
        share = grid.share(norm)
        return tuple(a + (b - a) * share for a, b in zip(pale, strong, strict=True))

    if grid.leaves and grid.passes:
        pixels = [[color(state, norm) for state, norm in cells] for _, cells in grid.leaves]
        axes.imshow(pixels, aspect="auto", interpolation="nearest")
        names = [one_line(series.name).replace("$", r"\$") for series, _ in grid.leaves]
        axes.set_yticks(range(len(names)), names, fontsize=6)
        ticks = range(0, len(grid.passes), max(len(grid.passes) // 8, 1))
        axes.set_xticks(ticks, [f"{grid.passes[at]:,}" for at in ticks])
    axes.set_xlabel("pass (red: NaN or infinity, dark grey: zero, light grey: not reached)")
