"""The history of a training as event files, which TensorBoard shows as scalars."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from gradtrace.errors import GradtraceError
from gradtrace.history import columns, update_columns
from gradtrace.wording.quoting import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Trace

__all__ = ["check_installed", "event_files"]

FILE = "events.out.tfevents.0.gradtrace"  # always the same: a second export replaces the first
PREFIX = "gradtrace"
Scalars = dict[str, float]


def check_installed() -> None:
    """Raise GradtraceError where TensorBoard is missing."""
    try:
        import tensorboard  # noqa: F401, PLC0415 - an extra
    except ImportError:
        what = "event files are written by tensorboard, which is not installed"
        raise GradtraceError(what, "pip install tensorboard") from None


def event_files(trace: Trace, *, update: bool) -> dict[str, bytes]:
    """Return the content of an event file by its name in the folder of the run; ranks have folders of their own.

    A point's step is the backward pass, or with ``update`` the optimizer step; its time counts from the beginning
    of the recording. A norm that is not finite is NaN, a leaf that was not reached has no point.
    """
    table, axis, read = (update_columns(trace), "step", _update) if update else (columns(trace), "pass", _norms)
    points: dict[int, dict[int, tuple[float, Scalars]]] = {}
    for values in zip(*table.values(), strict=True):
        row = dict(zip(table, values, strict=True))
        _, scalars = points.setdefault(row["rank"], {}).setdefault(row[axis], (row.get("seconds") or 0.0, {}))
        scalars.update({f"{PREFIX}/{visible(tag)}": value for tag, value in read(row) if value is not None})
    return {f"rank-{rank}/{FILE}" if len(points) > 1 else FILE: _events(found) for rank, found in points.items()}


def _norms(row: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    yield f"norm/{row['leaf']}", math.nan if row["state"] == "not finite" else row["norm"]
    if row["scale"] is not None:
        yield f"true_norm/{row['leaf']}", math.nan if row["state"] == "not finite" else row["true_norm"]
    for name in ("step", "loss", "learning_rate", "scale"):
        yield name, row[name]


def _update(row: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in ("ratio", "weight", "update", "zeros"):
        yield f"{name}/{row['leaf']}", row[name]


def _events(points: dict[int, tuple[float, Scalars]]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415 - an extra
    from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
    from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: PLC0415

    file = io.BytesIO()
    writer = RecordWriter(file)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    for step, (seconds, scalars) in sorted(points.items()):
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        writer.write(Event(wall_time=seconds, step=step, summary=Summary(value=values)).SerializeToString())
    return file.getvalue()
