"""That the harness runs; how fast anything is stands in docs/benchmarks.md, never in a test."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "run.py"


def table(only):
    command = [sys.executable, str(SCRIPT), "--quick", "--only", only]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")]
    return {cells[0]: dict(zip(rows[0], cells, strict=True)) for cells in rows[2:]}


def test_a_row_shows_ours_beside_the_others():
    (row,) = table("chain of 5,000 scalar ops, everything").values()
    recording, made = row["gradtrace"].split("; ")
    assert float(recording) > 0
    assert float(made.removesuffix(" with the trace made of it")) > 0
    assert float(row["anomaly mode"]) > 0
    assert row["plain"].startswith("1.00 (")
    assert row["torchviz"] == "–"


@pytest.mark.slow
def test_every_row_can_be_measured():
    rows = table("")
    assert len(rows) > 10
    assert all(row["gradtrace"] for row in rows.values())
