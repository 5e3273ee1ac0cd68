"""``gradtrace history``: gradients over the passes of a recorded training."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtrace.cli.output import Target, say
from gradtrace.errors import GradtraceError, NothingRecordedError, UnknownNameError
from gradtrace.files import make_folder, write_whole
from gradtrace.formats.tensorboard import check_installed, event_files
from gradtrace.history import LeafSummary, columns, pass_rows, sampled, summaries, update_columns
from gradtrace.processes.merging import read_all
from gradtrace.wording.history import LeafLine, history_table
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import LeafSeries, Trace

__all__ = ["history"]

Traces = Annotated[list[str], typer.Argument(metavar="TRACE...", help="Traces saved by gradtrace record.")]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write .svg, .png, .pdf, .csv, .jsonl or .parquet."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        metavar="NAME",
        help="Format of the output, if its ending does not tell; tensorboard writes event files to the folder FILE.",
    ),
]
Update = Annotated[bool, typer.Option("--update", help="Show ‖Δw‖/‖w‖, which record --weights N measures.")]
BUCKETS = 24
TENSORBOARD = "tensorboard"


def history(traces: Traces, *, output: Output = None, format_name: Format = None, update: Update = False) -> None:
    """Show the gradient norm of each leaf over all passes, those that were not kept included."""
    if format_name is not None and output is None:
        raise GradtraceError(f"-f {format_name} needs an output", "name a file, or a folder for tensorboard, with -o")
    save = _saver(output, format_name) if output is not None else None
    trace = read_all(traces, say)
    if update and not trace.updates:
        raise GradtraceError("the trace holds no updates of weights", "record them: gradtrace record --weights 10 ...")
    if not trace.series:
        raise NothingRecordedError("the trace holds no history", "record the script again with this version")
    if save is not None:
        save(trace, update)
        say(f"wrote {output}: {_counted(trace)}")
        return
    say(_headline(trace))
    lines = _update_lines(trace) if update else _leaf_lines(trace)
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
    for line in history_table(lines, width, color=sys.stdout.isatty()):
        typer.echo(line)


def _title(trace: Trace) -> str:
    return f"gradients of {Path(trace.command[0]).name}" if trace.command else "gradients"


def _counted(trace: Trace) -> str:
    passes = {index for series in trace.series for index in series.passes}
    return f"{len(trace.series):,} leaves over {len(passes):,} passes"


def _headline(trace: Trace) -> str:
    """Return the line about the run: passes, steps, loss, learning rate."""
    known = list(pass_rows(trace).values())
    said = [_title(trace) + f": {_counted(trace)}"]
    if known and known[-1].step:
        said.append(f"{known[-1].step + 1:,} optimizer steps")
    losses = [row.loss for row in known if row.loss is not None]
    if losses:
        broken = sum(not math.isfinite(loss) for loss in losses)
        said.append(f"loss {number(losses[0])} → {number(losses[-1])}" + (f", {broken:,} not finite" if broken else ""))
    rates = [row.learning_rate for row in known if row.learning_rate is not None]
    if rates:
        said.append(f"learning rate {number(rates[0])}" + (f" → {number(rates[-1])}" if rates[-1] != rates[0] else ""))
    return "; ".join(said)


def _leaf_lines(trace: Trace) -> list[LeafLine]:
    return [_line(found) for found in summaries(trace)]


def _line(found: LeafSummary) -> LeafLine:
    series = found.series
    return LeafLine(series.name, series.shape, sampled(series, _stretches(series)), found[1:6], found[6:])


def _stretches(series: LeafSeries) -> list[int]:
    count = len(series.passes)
    return [series.passes[at * count // BUCKETS] for at in range(BUCKETS)] if count > BUCKETS else series.passes


def _update_lines(trace: Trace) -> list[LeafLine]:
    """Return the ratios of update and weight as rows of the same table."""
    from gradtrace.history import summary  # noqa: PLC0415
    from gradtrace.model import LeafSeries  # noqa: PLC0415 - built here only

    found = []
    for series in trace.updates:
        pairs = zip(series.updates, series.weights, strict=True)
        ratios = [update / weight if update is not None and weight else None for update, weight in pairs]
        found.append(LeafSeries(series.name, series.shape, series.steps, ratios, [True] * len(ratios)))
    return [_line(summary(series)) for series in found]


def _saver(output: str, format_name: str | None) -> Callable[[Trace, bool], None]:
    """Return what writes a history to ``output``; what can fail before the trace is read does."""
    if format_name == TENSORBOARD:
        check_installed()
        return partial(_save_events, output)
    ending = Path(output).suffix.lower() if format_name is None else f".{format_name}"
    if ending not in WRITERS and format_name is not None:
        raise UnknownNameError.of("format of a history", format_name, [*(name[1:] for name in WRITERS), TENSORBOARD])
    if ending not in WRITERS:
        raise UnknownNameError.of("ending of a history", ending or output, WRITERS)
    write = WRITERS[ending]
    return lambda trace, update: Target(output).write(write(trace, update))


def _save_events(folder: str, trace: Trace, update: bool) -> None:  # noqa: FBT001 - as the option has it
    for name, data in event_files(trace, update=update).items():
        path = Path(folder, name)
        make_folder(path.parent)
        write_whole(path, data)


def _table(trace: Trace, update: bool) -> dict[str, list[Any]]:  # noqa: FBT001 - as the option has it
    return update_columns(trace) if update else columns(trace)


def _csv(trace: Trace, update: bool) -> str:  # noqa: FBT001
    table, text = _table(trace, update), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def _jsonl(trace: Trace, update: bool) -> str:  # noqa: FBT001
    table = _table(trace, update)
    rows = (map(_plain, row) for row in zip(*table.values(), strict=True))
    return "".join(json.dumps(dict(zip(table, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(trace: Trace, update: bool) -> bytes:  # noqa: FBT001
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        what = "a .parquet file is written by pyarrow, which is not installed"
        raise GradtraceError(what, "pip install pyarrow") from None
    buffer = io.BytesIO()
    parquet.write_table(pa.table(_table(trace, update)), buffer)
    return buffer.getvalue()


def _svg(trace: Trace, _: bool) -> str:  # noqa: FBT001
    from gradtrace.drawing.history.heat_map import heat_map  # noqa: PLC0415 - where it is drawn

    return heat_map(trace, f"{_title(trace)}: {_counted(trace)}")


def _plotted(kind: str) -> Callable[[Trace, bool], bytes]:
    def write(trace: Trace, _: bool) -> bytes:  # noqa: FBT001
        from gradtrace.drawing.history.plot import plot  # noqa: PLC0415 - where it is drawn

        return plot(trace, f"{_title(trace)}: {_counted(trace)}", kind)

    return write


WRITERS: dict[str, Callable[[Trace, bool], str | bytes]] = {
    ".svg": _svg,
    ".png": _plotted("png"),
    ".pdf": _plotted("pdf"),
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
