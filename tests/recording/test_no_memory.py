"""Tensors that claim to be plain and have no readable memory. Each runs in a child: a wrong read ends the process."""

import subprocess
import sys

import pytest

BACKWARDS = """
import torch
class Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1
    @staticmethod
    def backward(ctx, grad):
        return {sent}
x = torch.ones({size}, requires_grad=True)
Passes.apply(x).sum().backward()
print(x.grad.norm().item())
"""
ZEROS = "torch._efficientzerotensor({shape}){view}"
CASES = {
    "a sign of a stacked tensor": (
        "import torch; a = torch.ones(2, 2, requires_grad=True); torch.sgn(torch.stack([a, a])).sum().backward()\n"
        "print(a.grad.norm().item())"
    ),
    "zeros": BACKWARDS.format(sent=ZEROS.format(shape="4", view=""), size=4),
    "a row of zeros": BACKWARDS.format(sent=ZEROS.format(shape="3, 4", view="[1]"), size=4),
    "a row of many zeros": BACKWARDS.format(sent=ZEROS.format(shape="3, 4096", view="[2]"), size=4096),
    "a column of many zeros": BACKWARDS.format(sent=ZEROS.format(shape="4096, 3", view="[:, 1]"), size=4096),
    "half zeros": BACKWARDS.format(sent=ZEROS.format(shape="3, 64", view="[1]") + ".half()", size=64),
}


@pytest.mark.parametrize("native", ["0", "1"])
@pytest.mark.parametrize("script", CASES.values(), ids=CASES)
def test_a_tensor_without_memory_is_measured_as_what_it_stands_for(script, native, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADTRACE_NATIVE", native)
    file = tmp_path / "script.py"
    file.write_text(script)
    command = [sys.executable, "-m", "gradtrace", "check", "--json", file]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode in {0, 1}, done
    assert "0.0" in done.stderr
