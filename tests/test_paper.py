"""The paper in examples/paper: made by its own Makefile, and read."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.latex, pytest.mark.usefixtures("latex")]


def test_the_paper_is_typeset_with_its_figures_and_formulas(tmp_path):
    shutil.copytree(
        EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("*.pdf", "*.tikz", "*.aux", "*-*.tex")
    )
    command = ["make", "-j3", f"GRADTRACE={sys.executable} -m gradtrace"]
    done = subprocess.run(
        command, cwd=tmp_path / "examples" / "paper", capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Overfull" not in done.stdout
    read = ["pdftotext", str(tmp_path / "examples" / "paper" / "paper.pdf"), "-"]
    text = " ".join(subprocess.run(read, capture_output=True, encoding="utf-8", check=True).stdout.split())
    assert re.search(r"u ?\+ ?3v ?2 ?= ?50", text)  # the formula that explain derives, with its number
    assert re.search(r"v ?= ?4 grad 50", text)  # TikZ
    assert "mlp.py · backward pass 1 of 3" in text  # the PDF
    assert "(figure 1)" in text
