"""The commands on a script whose tensors are on the pretend accelerator, from the script to its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.accelerator import compiler

pytestmark = pytest.mark.skipif(
    compiler() is None and not os.environ.get("CI"), reason="the pretend accelerator needs a C++ compiler"
)

ROOT = Path(__file__).parent.parent.parent
PARTIALS = """
from tests.accelerator import load; load()
import torch
u = torch.tensor(2.0, device="pretend", requires_grad=True)
v = torch.tensor(4.0, device="pretend", requires_grad=True)
L = u**2 * v + v**3
L.backward()
"""
FAILING = """
from tests.accelerator import load; load()
import torch
net = torch.nn.Linear(30, 4).to("pretend")
net(torch.ones(2, 30, device="pretend")).sum().backward()
torch.ops.pretend.set("failed", 1)
net(torch.ones(2, 30, device="pretend"))
"""


def run(folder, script, *command):
    (folder / "train.py").write_text(script)
    return subprocess.run(
        [sys.executable, "-m", "gradtrace", *command, "train.py"], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_script_on_a_device_is_drawn_explained_and_compared(tmp_path):
    done = run(tmp_path, PARTIALS, "render", "-o", "partials.svg")
    assert (done.returncode, (tmp_path / "partials.svg").exists()) == (0, True), done.stderr
    assert all(text in (tmp_path / "partials.svg").read_text() for text in ("u**2", "48", "52"))
    done = run(tmp_path, PARTIALS, "explain")
    assert done.returncode == 0, done.stderr
    assert "= 52" in done.stdout
    done = run(tmp_path, PARTIALS, "check", "--numeric")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_device_that_fails_leaves_the_scripts_error_and_a_picture_and_says_what_to_do(tmp_path):
    done = run(tmp_path, FAILING, "render", "-o", "train.svg")
    assert done.returncode == 1
    assert "device-side assert triggered" in done.stderr
    assert "line 7, in <module>" in done.stderr
    assert (tmp_path / "train.svg").exists()
    done = run(tmp_path, FAILING, "check")
    assert "CUDA_LAUNCH_BLOCKING=1" in done.stdout + done.stderr
