"""The history of a trace: its columns, its summary, its table and its pictures, each file read back."""

from __future__ import annotations

import csv
import io
import json
import math
from xml.etree import ElementTree as ET

import pytest

from gradtrace import tracefile
from gradtrace.drawing.history.heat_map import COLUMNS, grid_of, heat_map
from gradtrace.history import columns, first_difference, sampled, summaries
from gradtrace.model import FORMAT_VERSION, LeafSeries, LearningRate, PassSeries, Trace, UpdateSeries
from tests import forked

PASSES = 50


def made(**change):
    """A trace of 50 passes: a leaf falls, one is NaN from pass 31 on, one is reached in each second pass, one is 0."""
    indices = list(range(1, PASSES + 1))
    always = [True] * PASSES
    leaves = (
        LeafSeries("falls", (2, 3), indices, [1 / index for index in indices], always),
        LeafSeries("breaks", (), indices, [None if index > 30 else 0.5 for index in indices], always),
        LeafSeries("second", (4,), indices, [None if i % 2 else 2.0 for i in indices], [not i % 2 for i in indices]),
        LeafSeries("<zero> & $more$", (4,), indices, [0.0] * PASSES, always),
    )
    losses = [None if index > 30 else 3.0 - index / 20 for index in indices]
    rates = LearningRate(0, 0.1), LearningRate(10, 0.01)
    seconds = [index * 0.5 for index in indices]
    rows = PassSeries(indices, losses, [index - 1 for index in indices], seconds, indices[30:], rates)
    update = UpdateSeries("falls", (2, 3), [0, 10], [2.0, 0.0], [0.002, None], [0.0, 1.0])
    trace = Trace(FORMAT_VERSION, ("train.py",), {}, (), leaves, pass_series=(rows,), updates=(update,))
    return tracefile.msgspec.structs.replace(trace, **change)


@pytest.fixture
def saved(tmp_path):
    tracefile.save(made(), tmp_path / "run.json.gz")
    return tmp_path / "run.json.gz"


def run(*arguments, cwd):
    return forked.gradtrace(cwd, "history", *arguments)


def test_a_trace_with_a_history_is_read_back_as_it_was(saved):
    assert tracefile.load(saved) == made()


def test_a_summary_counts_what_is_no_number():
    falls, breaks, second, zero = summaries(made())
    assert (falls.first, falls.least, falls.largest, falls.last) == (1.0, 1 / 50, 1.0, 1 / 50)
    assert (breaks.unreached, breaks.not_finite, breaks.last) == (0, 20, 0.5)
    assert (second.unreached, second.not_finite, second.median) == (25, 0, 2.0)
    assert (zero.largest, zero.unreached, zero.not_finite) == (0.0, 0, 0)


def test_a_stretch_tells_nan_before_all_else():
    assert sampled(made().series[1], [1, 21, 41]) == [("finite", 0.5), ("not finite", 0.5), ("not finite", 0.0)]
    assert [state for state, _ in sampled(made().series[2], [1, 2, 3])] == ["unreached", "finite", "finite"]


def test_columns_hold_a_row_for_each_pass_and_leaf():
    table = columns(made())
    assert {len(column) for column in table.values()} == {4 * PASSES}
    at = table["leaf"].index("breaks") + 34
    row = {name: column[at] for name, column in table.items()}
    assert math.isnan(row.pop("loss"))
    assert row == {
        "rank": 0, "pass": 35, "step": 34, "leaf": "breaks", "norm": None, "state": "not finite", "true_norm": None,
        "scale": None, "learning_rate": 0.01, "seconds": 17.5,
    }  # fmt: skip


def test_csv_and_jsonl_hold_the_columns(saved):
    table = columns(made())
    assert run("-o", "n.csv", saved, cwd=saved.parent).returncode == 0
    rows = list(csv.DictReader(io.StringIO((saved.parent / "n.csv").read_text())))
    assert [row["leaf"] for row in rows] == table["leaf"]
    assert [float(row["norm"]) if row["norm"] else None for row in rows] == table["norm"]
    assert run("-o", "n.jsonl", saved, cwd=saved.parent).returncode == 0
    lines = [json.loads(line) for line in (saved.parent / "n.jsonl").read_text().splitlines()]
    assert [line["norm"] for line in lines] == table["norm"]
    assert [line["loss"] for line in lines] == [None if loss != loss else loss for loss in table["loss"]]  # noqa: PLR0124


def test_a_format_is_chosen_by_name_too(saved):
    assert run("-o", "n.csv", saved, cwd=saved.parent).returncode == 0
    assert run("-f", "csv", "-o", "-", saved, cwd=saved.parent).stdout == (saved.parent / "n.csv").read_text()


def test_parquet_holds_the_columns(saved):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("-o", "n.parquet", saved, cwd=saved.parent).returncode == 0
    found = parquet.read_table(saved.parent / "n.parquet").to_pydict()
    table = columns(made())
    assert found["norm"] == table["norm"]
    assert found["state"] == table["state"]


def test_the_heat_map_has_a_cell_for_each_leaf_and_stretch():
    picture = ET.fromstring(heat_map(made(), "a < b & c"))
    cells = [path for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("class") != "line"]
    count = sum(path.get("d").count("z") for path in cells)
    broken_loss = 20
    assert count == 4 * PASSES + broken_loss
    by_class = {path.get("class"): path.get("d").count("z") for path in cells[1:]}
    assert (by_class["zero"], by_class["unreached"], by_class["not-finite"]) == (PASSES, 25, 20)
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "<zero> & $more$" in texts


def test_of_many_passes_a_column_is_a_stretch():
    indices = list(range(1, 100_001))
    series = LeafSeries("w", (), indices, [1.0] * len(indices), [True] * len(indices))
    grid = grid_of(Trace(FORMAT_VERSION, series=(series,)))
    assert len(grid.passes) == len(grid.leaves[0][1]) == COLUMNS
    assert grid.last == 100_000


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_matplotlib_draws_the_same_bytes_each_time(saved, ending, magic):
    pytest.importorskip("matplotlib")
    drawn = []
    for _ in range(2):
        done = run("-o", f"n.{ending}", saved, cwd=saved.parent)
        assert done.returncode == 0, done.stderr
        drawn.append((saved.parent / f"n.{ending}").read_bytes())
    assert drawn[0] == drawn[1]
    assert drawn[0].startswith(magic)


def test_the_terminal_shows_a_row_for_each_leaf(saved):
    done = run(saved, cwd=saved.parent)
    assert "gradients of train.py: 4 leaves over 50 passes; 50 optimizer steps" in done.stderr
    assert "20 not finite; learning rate 0.1 → 0.01" in done.stderr
    rows = {line.split("  ")[0].strip(): line for line in done.stdout.splitlines()}
    assert "×" in rows["breaks"]
    assert rows["second"].split()[-1] == "25"
    assert "0" * 24 in rows["<zero> & $more$"]


def test_the_ratio_of_update_and_weight_is_shown_on_request(saved):
    done = run("--update", saved, cwd=saved.parent)
    assert "0.001" in next(line for line in done.stdout.splitlines() if line.startswith("falls"))


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("-o", "n.txt", "run.json.gz"), "'.txt'", 2),
        (("-f", "txt", "-o", "n", "run.json.gz"), "'txt'", 2),
        (("-f", "tensorboard", "run.json.gz"), "needs an output", 2),
        (("nothing.json",), "no such file", 2),
        (("-o", "no/such/n.csv", "run.json.gz"), "no such folder", 2),
    ],
)
def test_wrong_usage_is_one_line(saved, arguments, said, code):
    done = run(*arguments, cwd=saved.parent)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_histories_part_where_a_norm_differs_first():
    series = made().series
    norms = list(series[0].norms)
    norms[16] *= 1.5
    other = made(series=(tracefile.msgspec.structs.replace(series[0], norms=norms), *series[1:]))
    found = first_difference(made(), other, 1e-3)
    assert (found.pass_index, found.series.name) == (17, "falls")
    assert first_difference(made(), made(), 1e-3) is None
