"""Event files of a history, read back by TensorBoard itself."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.history import columns, update_columns
from tests.test_history import made

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def exported(folder, *options, trace=None):
    tracefile.save(trace or made(), folder / "run.json")
    command = [sys.executable, "-m", "gradtrace", "history", "-f", "tensorboard", "-o", "runs", *options, "run.json"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def read(folder):
    """What TensorBoard reads: (step, value, time) of each tag's points."""
    found = accumulators.EventAccumulator(str(folder), {"scalars": 0})
    found.Reload()
    return {tag: [(e.step, e.value, e.wall_time) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def rows(table):
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


def test_tensorboard_reads_the_columns_of_the_history(tmp_path):
    assert exported(tmp_path).returncode == 0
    expected = {}
    for row in rows(columns(made())):
        norm = math.nan if row["state"] == "not finite" else row["norm"]
        found = {f"norm/{row['leaf']}": norm, **{k: row[k] for k in ("step", "loss", "learning_rate", "scale")}}
        for tag, value in found.items():
            if value is not None:
                expected.setdefault(f"gradtrace/{tag}", {})[row["pass"]] = (value, row["seconds"])
    found = read(tmp_path / "runs")
    assert found.keys() == expected.keys()
    for tag, points in found.items():
        assert [step for step, *_ in points] == list(expected[tag])
        values = np.array([rest for _, *rest in points])
        wanted = np.array([(np.float32(value), time) for value, time in expected[tag].values()])
        np.testing.assert_array_equal(values, wanted)
    assert sum(math.isnan(value) for _, value, _ in found["gradtrace/norm/breaks"]) == 20
    assert len(found["gradtrace/norm/second"]) == 25


def test_updates_stand_over_the_optimizer_steps(tmp_path):
    assert exported(tmp_path, "--update").returncode == 0
    wanted = [(row["step"], np.float32(row["ratio"])) for row in rows(update_columns(made())) if row["ratio"]]
    assert [point[:2] for point in read(tmp_path / "runs")["gradtrace/ratio/falls"]] == wanted


def test_a_scaled_norm_stands_beside_the_true_one(tmp_path):
    trace = made()
    scaled = replace(trace.pass_series[0], scales=[4.0] * 50)
    assert exported(tmp_path, trace=replace(trace, pass_series=(scaled,))).returncode == 0
    found = read(tmp_path / "runs")
    assert found["gradtrace/norm/falls"][0][1] == 4 * found["gradtrace/true_norm/falls"][0][1] == 1.0


def test_each_rank_is_a_run_and_a_second_export_replaces_the_first(tmp_path):
    trace = made()
    other = tuple(replace(series, rank=1) for series in trace.series[:1])
    for _ in range(2):
        assert exported(tmp_path, trace=replace(trace, series=trace.series + other)).returncode == 0
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == ["rank-0", "rank-1"]
    assert len(read(tmp_path / "runs/rank-1")["gradtrace/norm/falls"]) == 50
    assert len(list((tmp_path / "runs/rank-1").iterdir())) == 1


def test_what_is_missing_is_one_line(tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ImportError")
    done = exported(tmp_path)
    assert done.returncode == 2
    assert "event files are written by tensorboard, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
