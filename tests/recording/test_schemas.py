"""Operators of ATen called by their schemas, recorded in forks: see tests/schemas.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.scripts import ROOT


def test_a_hundredth_of_all_operators_lives_and_computes_as_without_us(tmp_path, counted):
    counted(**tried(tmp_path / "results", 7, 100))


@pytest.mark.slow
@pytest.mark.parametrize("native", ["0", "1"])
def test_each_operator_lives_and_computes_as_without_us(native, tmp_path, monkeypatch, counted):
    monkeypatch.setenv("GRADTRACE_NATIVE", native)
    counted(**tried(tmp_path / "results", 0, 1))


def tried(results, first, each):
    """Try them in a child, and return how many there were."""
    command = [sys.executable, "-m", "tests.schemas", results, str(first), str(each)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [row["schema"] for row in rows if row.get("died")] == []
    assert [wrong for row in rows for wrong in row.get("wrong", ())] == []
    formulas = {name for row in rows for name in row.get("formulas", ())}
    assert len(formulas) > 5
    return {"operators": len(rows), "formulas of operators": len(formulas)}
