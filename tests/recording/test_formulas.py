"""Every backward formula that PyTorch's own samples reach, recorded in a child: see tests/formulas.py."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.scripts import ROOT

SLOW = ("6", "float32", "float64", "float16", "bfloat16", "complex64", "complex128")


def test_each_operator_of_pytorch_is_differentiated_twice_as_without_us(tmp_path, counted):
    counted(**tried(tmp_path, ("1", "float32")))


@pytest.mark.slow
@pytest.mark.parametrize("native", ["0", "1"])
def test_many_samples_of_each_operator_are_differentiated_as_without_us(native, tmp_path, monkeypatch, counted):
    monkeypatch.setenv("GRADTRACE_NATIVE", native)
    counted(**tried(tmp_path, SLOW))


def tried(folder, arguments):
    """Try them in a child, and return how many there were."""
    results = folder / "results"
    command = [sys.executable, "-m", "tests.formulas", results, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []
    assert done.returncode == 0, (rows[-1:], done.stderr[-3000:])
    assert [wrong for row in rows for wrong in row.get("wrong", ())] == []
    samples, formulas = sum(row.get("samples", 0) for row in rows), rows[-1]["formulas"]
    assert samples > 400
    assert {"SgnBackward0", "LinalgSvdBackward0", "FftR2CBackward0"} <= set(formulas)
    return {"samples of operators": samples, "passes": rows[-1]["passes"], "backward formulas": len(formulas)}
