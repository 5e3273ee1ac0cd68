"""Damaged trace files: each command answers them in one line, in bounded time and memory; see tests/mutations.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from gradtrace.explain.explanation import explain
from gradtrace.explain.formats.base import EXPLANATIONS
from gradtrace.explain.formulas import pinned
from gradtrace.model import ForwardCall
from tests.builders import partials
from tests.scripts import ROOT

SCRIPT = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)

class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3

model = nn.Sequential(nn.Linear(3, 4), nn.ModuleList([nn.Tanh()])[0], nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(2):
    hidden = checkpoint(model, torch.ones(2, 3), use_reentrant=False)
    Twice.apply(hidden).pow(2).mean().backward()
    optimizer.step()
u, v = torch.tensor(2.0, requires_grad=True), torch.tensor([4.0, 0.0], requires_grad=True)
f = (u**2 + v.sqrt() * u).sum() + (v[:, None] - v).abs().sum()
(gradient,) = torch.autograd.grad(f, u, create_graph=True)
(gradient**2).backward()
y = torch.nn.functional.mse_loss(u.expand(2, 1), torch.ones(2), reduction="none").sum() * u.detach()
y.backward()
y.backward()
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A trace that has of everything: what was held, compared, found, failed, and made by a backward."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gradtrace", "record", "--calls", "--numeric", "-o", "whole.json", "script.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "6 of 6 backward passes" in done.stderr, done
    return folder / "whole.json"


def test_forty_damaged_files_are_answered_in_a_line(whole, tmp_path, counted):
    refused = tried(whole, tmp_path / "results", 80, 40)
    counted(files=40, refused=refused)
    assert 10 < refused < 35  # not all, or nothing behind the loader were tried


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 11_000, 1000))
def test_eleven_thousand_damaged_files_are_answered_in_a_line(first, whole, tmp_path, counted):
    refused = tried(whole, tmp_path / "results", first, 1000)
    counted(files=1000, refused=refused)
    assert 400 < refused < 800


@pytest.mark.parametrize("name", [*EXPLANATIONS])
def test_an_output_without_a_graph_is_explained_as_far_as_it_is_known(name):
    graph = partials()
    alone = replace(graph, edges=graph.edges[1:], forward=(ForwardCall("mul", nodes=("n2",)),))
    assert "chain rule" in EXPLANATIONS[name].function(explain(alone, 1, pinned()), 80)


def tried(whole: Path, results: Path, first: int, count: int) -> int:
    """Try files in a child with limits; return how many of them were refused."""
    command = [sys.executable, "-W", "error", "-m", "tests.mutated_files", whole, results, str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert done.returncode == 0, f"file {rows[-1]} ended the process: {done.stderr[-2000:]!r}"
    answers = [row for row in rows if "number" in row]
    assert len(answers) == count
    assert [row for row in answers if row["fault"]] == []
    return sum(row["refused"] for row in answers)
