"""Finite differences beside ops that may hold infinities, and the numbers in the sentence where a gradient is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradtrace.checks.checker import run
from tests.checking import recorded

CASE = Path(__file__).parent / "cases" / "numeric-causal-mask.py"
MASK = "m = torch.triu(torch.ones(4, 4), 1).bool()\ns = torch.randn(4, 4, requires_grad=True)\n"
INFINITE = {
    "a causal mask": CASE.read_text(encoding="utf-8"),
    "masked_fill": MASK + "s.masked_fill(m, -torch.inf).softmax(-1).pow(2).sum().backward()",
    "where": MASK + "torch.where(m, -torch.inf, s).softmax(-1).pow(2).sum().backward()",
    "an additive mask": MASK + "(s + torch.zeros(4, 4).masked_fill(m, -torch.inf)).softmax(-1).pow(2).sum().backward()",
    "logsumexp": MASK + "s.masked_fill(m, -torch.inf).logsumexp(-1).pow(2).sum().backward()",
    "a maximum": MASK + "s.masked_fill(m, -torch.inf).max(-1).values.pow(2).sum().backward()",
    "a minimum": MASK + "torch.minimum(s, torch.full((4, 4), torch.inf)).pow(2).sum().backward()",
    "a clamp": MASK + "s.clamp(-torch.inf, torch.inf).pow(2).sum().backward()",
    "an assignment": MASK + "t = s * 1\nt[m] = -torch.inf\nt.softmax(-1).pow(2).sum().backward()",
    "a large mask": "m = torch.triu(torch.ones(9, 9), 1).bool()\ns = torch.randn(9, 9, requires_grad=True)\n"
    "s.masked_fill(m, -torch.inf).softmax(-1).pow(2).sum().backward()",
    "chosen afterwards": MASK + "s.masked_fill(m, -torch.inf)[~m].pow(2).sum().backward()",
}


@pytest.mark.parametrize("name", INFINITE)
def test_infinities_that_are_written_on_purpose_are_no_wrong_gradient(name, tmp_path):
    trace = recorded(INFINITE[name], tmp_path, numeric=True)
    assert run(trace) == ()
    assert any(comparison.agrees for comparison in trace.passes[0].comparisons)


WRONG = """
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos().abs()
x = torch.linspace(1., 3., {size}).requires_grad_()
F.apply(x).sum().backward()
"""


@pytest.mark.parametrize("size", [2, 400])
def test_the_sentence_has_autograds_number_and_the_true_one(size, tmp_path):
    trace = recorded(WRONG.format(size=size), tmp_path, numeric=True)
    (found,) = [f for f in run(trace) if f.check == "wrong-gradient"]
    (comparison,) = [c for c in trace.passes[0].comparisons if c.of == "function" and c.agrees is False]
    assert comparison.worst is not None
    assert "it is " in found.message
    assert "the true one is " in found.message
    if size == 2:  # cos(1) and -cos(3), by hand
        assert "it is [0.5403, 0.99], the true one is [0.5403, -0.99]" in found.message
