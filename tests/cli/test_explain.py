"""The command: what a user reads, on the examples and on saved traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
EXAMPLES = ("custom_function.py", "mlp.py", "sine_curve.py", "backward_twice.py")


def python(*arguments, folder=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def gradtrace(*arguments):
    return forked.gradtrace(ROOT, *arguments)


def test_the_partials_example_is_derived_evaluated_and_checked():
    run = gradtrace("explain", "examples/partials.py")
    assert run.returncode == 0
    for part in ("∂f/∂u = 2·u + v", "= 8 ", "autograd 50", "finite differences 50.00"):
        assert part in run.stdout
    assert "∂f/∂v = 48 (through v**3) + 2 (through u*v) = 50" in run.stdout
    assert "each op alone, by finite differences: 8 gradients compared, all agree" in run.stdout
    assert "f = 76, df/du = 8, df/dv = 50" in run.stderr  # the script's own print


def test_a_saved_trace_gives_the_same_explanation(tmp_path):
    saved = tmp_path / "run.json"
    assert gradtrace("record", "--calls", "--numeric", "-o", saved, "examples/partials.py").returncode == 0
    assert gradtrace("explain", saved).stdout == gradtrace("explain", "examples/partials.py").stdout


def test_a_straight_through_estimator_is_named_with_the_line_of_its_backward():
    out = gradtrace("explain", "examples/custom_function.py").stdout
    assert "wrong-gradient: the gradient that RoundBackward sends to x is not the true one" in out
    line = (ROOT / "examples/custom_function.py").read_text().split("\n").index("    def backward(_ctx, grad):") + 1
    assert f"custom_function.py:{line})" in out


def test_both_passes_of_a_second_derivative_are_explained():
    out = gradtrace("explain", "examples/second_derivative.py").stdout
    assert "∂y/∂x = cos(x)" in out
    assert "∂first/∂x = -sin(x)" in out


def test_latex_and_markdown_are_chosen_by_option_or_by_ending(tmp_path):
    latex = gradtrace("explain", "examples/partials.py", "--latex", "--order", "2").stdout
    assert r"\frac{\partial f}{\partial u} &= 2 u + v = 8" in latex
    assert r"\frac{\partial^2 f}{\partial u \partial v} &= 1" in latex
    target = tmp_path / "partials.md"
    assert gradtrace("explain", "-o", target, "examples/partials.py").returncode == 0
    assert r"$\frac{\partial f}{\partial v} = u + 3 v^{2}$ | 50 | 50 | 50.00 |" in target.read_text(encoding="utf-8")


def test_an_unknown_format_lists_the_known_ones():
    run = gradtrace("explain", "-f", "word", "examples/partials.py")
    assert run.returncode == 2
    assert "choose from latex, markdown, text" in run.stderr


def test_the_picture_carries_the_formulas():
    dot = gradtrace("render", "--formulas", "-o", "-", "-f", "dot", "examples/partials.py").stdout
    assert "grad · 3 · v²" in dot
    assert "grad · 3 · v²" not in gradtrace("render", "-o", "-", "-f", "dot", "examples/partials.py").stdout


def test_the_script_runs_as_it_would(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\n"
        "x = torch.rand(5, requires_grad=True)\n"
        "y = torch.nn.functional.dropout(x.sin()).sum()\n"
        "y.backward()\n"
        "print(x.grad.tolist(), torch.rand(3).tolist())\n"
    )
    text = script.read_text()
    script.write_text(text.replace("import torch\n", "import torch\ntorch.manual_seed(0)\n"))
    plain = python(script)
    explained = gradtrace("explain", script)
    assert plain.returncode == explained.returncode == 0
    assert explained.stderr == plain.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_explained_with_its_chain_rule(example):
    run = python("-m", "gradtrace", "explain", f"examples/{example}")
    assert "the chain rule in backward order" in run.stdout
    wrong = [line for line in run.stdout.splitlines() if line.startswith("wrong-gradient")]
    assert bool(wrong) == (example == "custom_function.py"), wrong


def test_a_trace_says_which_torch_its_formulas_are_of(tmp_path):
    saved = tmp_path / "run.json"
    gradtrace("record", "-o", saved, "examples/square.py")
    trace = json.loads(saved.read_text())
    trace["versions"]["torch"] = "2.99.0"
    saved.write_text(json.dumps(trace))
    run = gradtrace("explain", saved)
    assert "2.99.0" in run.stderr
    assert "the trace holds no calls" in run.stdout


COLLIDING = """
import torch
n = torch.tensor(3.0, requires_grad=True)
t = torch.tensor([1.0, 2.0], requires_grad=True)
x = torch.tensor(100.0, requires_grad=True)
y = torch.sigmoid(x / 8) ** 2
f = y * t.sum() + torch.sin(n * 2)
f.backward()
"""


def test_a_letter_of_a_formula_is_no_name_of_the_script_for_something_else(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(COLLIDING)
    out = gradtrace("explain", script).stdout
    assert "Σᵢ tᵢ" in out  # not t2
    assert "cos(x)" not in out
    assert "local cos(a) = cos(6)" in out  # of n * 2, not of the script's x or n
    assert "local k · aᵏ⁻¹ = 2 · " in out  # of a power whose base and exponent are neither


def test_markdown_and_latex_say_what_the_terminal_says(tmp_path):
    text, markdown, latex = (gradtrace("explain", "-f", name, "examples/partials.py").stdout for name in FORMATS)
    commented = [line.removeprefix("%") for line in latex.splitlines() if line.startswith("%")]
    assert " ".join(commented).split() == text.split()
    for part in ("8 gradients compared, all agree", "50.00", "local n · vⁿ⁻¹ = 3 · 4² = 48", "seeded with 1"):
        assert part in text
        assert part in markdown
    assert "48 (through `v**3`) + 2 (through `u*v`) = 50" in markdown
    assert r"\frac{\partial f}{\partial v} &= 48 + 2 = 50" in latex


FORMATS = ("text", "markdown", "latex")


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_gradient_is_told_in_each_format(name):
    assert "wrong-gradient" in gradtrace("explain", "-f", name, "examples/custom_function.py").stdout


def test_an_ending_that_can_not_be_written_is_refused_before_the_script_runs(tmp_path):
    run = gradtrace("explain", "-o", tmp_path / "x.pdf", "examples/partials.py")
    assert (run.returncode, run.stdout) == (2, "")
    assert "unknown file ending '.pdf'; choose from .tex, .md, .txt" in run.stderr
    assert "f = 76" not in run.stderr


def test_one_gradient_is_one_gradient():
    assert "1 gradient compared, it agrees" in gradtrace("explain", "examples/square.py").stdout
