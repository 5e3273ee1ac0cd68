"""The compiled part against the Python that it stands for: the same traces of the same scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradtrace.recording.native.loader import NATIVE

ROOT = Path(__file__).parent.parent.parent
# Runs each script in one process and prints what was recorded of it, without the seconds.
RECORD = """
import contextlib, io, json, re, runpy, sys
import gradtrace
from gradtrace import tracefile

for script in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), gradtrace.record() as recording:
        with contextlib.suppress(RuntimeError):
            runpy.run_path(script, run_name="__main__")
    text = tracefile.dumps(recording.trace).decode()
    print(json.dumps(json.loads(re.sub(r'"seconds": *([[][^]]*[]]|[^,}]*)', '"seconds":0', text))))
"""
NET = """
import torch
from torch import nn

torch.manual_seed(0)

class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None

model = nn.Sequential(nn.Linear(40, 30), nn.LayerNorm(30), nn.GELU(), nn.Linear(30, 20))
x = torch.randn(8, 40)
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    model.to(dtype)
    out = Scaled.apply(model(x.to(dtype)), 2.0)
    first, second = out.split(10, dim=1)
    loss = (first.transpose(0, 1) * second.t()).float().square().mean() + out.expand(3, 8, 20).sum() * 0
    loss.backward(create_graph=dtype is torch.float64)
x = torch.tensor([0.0, 1.0, float("inf")], requires_grad=True)
(x.sqrt() * torch.tensor([0.0, 1.0, 2.0]) + torch.zeros(3).log().relu().detach()).sum().backward()
y = torch.zeros(50, requires_grad=True)
for _ in range(3):
    z = y.sqrt().view(5, 10).narrow(1, 2, 3)
    z.sum().backward()
h = torch.randn(2, 3, requires_grad=True)
h.register_hook(lambda g: g * 2)
values, indices = h.max(dim=1)
torch.autograd.grad(values.sum(), h)
torch.randn(3, dtype=torch.complex64, requires_grad=True).abs().sum().backward()
"""


def recorded(scripts, native):
    environment = {**os.environ, "GRADTRACE_NATIVE": native, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RECORD, *scripts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(NATIVE is None, reason="not compiled here")
@pytest.mark.parametrize("names", ["[cl]*", pytest.param("*", marks=pytest.mark.slow)])
def test_the_compiled_part_records_what_python_records(names, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(NET)
    scripts = [*sorted(map(str, ROOT.glob(f"examples/{names}.py"))), str(net)]
    compiled, python = recorded(scripts, "1"), recorded(scripts, "0")
    assert len(compiled) == len(scripts)
    for script, one, other in zip(scripts, compiled, python, strict=True):
        assert one["passes"], script
        for ours, theirs in zip(one["passes"], other["passes"], strict=True):
            same(ours, theirs, script)


PROGRAMS = """
import json
from gradtrace import tracefile
from gradtrace.recording.recorder import Recorder
from tests.programs import Program, quiet

def without_times(value):
    if isinstance(value, dict):
        return {{key: without_times(item) for key, item in value.items() if key not in ("seconds", "waiting")}}
    return [without_times(item) for item in value] if isinstance(value, list) else value

quiet()
for seed in range({first}, {first} + {count}):
    with Recorder() as recorder:
        Program(seed).run()
    print(json.dumps(without_times(json.loads(tracefile.dumps(recorder.trace)))))
"""


@pytest.mark.skipif(NATIVE is None, reason="not compiled here")
@pytest.mark.parametrize(("first", "count"), [(0, 12), pytest.param(0, 3000, marks=pytest.mark.slow)])
def test_the_twins_record_the_same_of_random_programs(first, count):
    both = []
    for native in ("1", "0"):
        environment = {**os.environ, "GRADTRACE_NATIVE": native, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROGRAMS.format(first=first, count=count)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        both.append([json.loads(line) for line in done.stdout.splitlines()])
    assert len(both[0]) == count
    for seed, (one, other) in enumerate(zip(*both, strict=True), first):
        for ours, theirs in zip(one["passes"], other["passes"], strict=True):
            same(ours, theirs, f"program {seed}")


def same(ours, theirs, where):
    """Equal, but for the last digits of what another order of summing gives."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{where}[{at}]")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6), where
    else:
        assert ours == theirs, where
