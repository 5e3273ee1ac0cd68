"""Where NaN and infinity were born, forward and backward; and what looks like it and is healthy."""

from __future__ import annotations

import pytest

from tests.checking import findings, told

MODULE = """
class Masked(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x.sqrt(), torch.zeros_like(x))
x = torch.tensor([4., 0., 1.], requires_grad=True)
Masked()(x).sum().backward()
"""
LOOP = """
x = torch.tensor([4., 1., 0.5], requires_grad=True)
for step in range(4):
    y = torch.sqrt(x - step * 0.5)
    y.sum().backward()
"""
SECOND = """
x = torch.tensor([1., 4.], requires_grad=True)
for scale in (1., 0., 0.):
    x.grad = None
    y = (x * scale).pow(2).sum().sqrt()
    y.backward()
"""
HALF = """
x = torch.tensor([0., 4.], dtype=torch.float16, requires_grad=True)
torch.sqrt(x).sum().backward()
"""
CUSTOM = """
class Inverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x == 0, x, 1 / x)
    @staticmethod
    def backward(ctx, grad):
        return -grad / ctx.saved_tensors[0] ** 2
x = torch.tensor([0., 2.], requires_grad=True)
Inverse.apply(x).sum().backward()
"""
BACKWARD_BIRTHS = {
    "module": (MODULE, "x.sqrt()", "SqrtBackward0"),
    "second pass": (SECOND, "(x * scale).pow(2).sum().sqrt()", "SqrtBackward0"),
    "half": (HALF, "torch.sqrt(x)", "SqrtBackward0"),
    "custom": (CUSTOM, "Inverse.apply(x)", "InverseBackward"),
    "division": (
        "x = torch.tensor([1., 1.], requires_grad=True)\nd = torch.tensor([0., 1.])\n"
        "torch.where(d == 0, 0., x / d).sum().backward()",
        "x / d",
        "DivBackward0",
    ),
    "power": (
        "x = torch.tensor([0., 1.], requires_grad=True)\n(x ** 0.5).sum().backward()",
        "x ** 0.5",
        "PowBackward0",
    ),
    "exp": (
        "a = torch.tensor(100., requires_grad=True)\ntorch.where(a <= 0, torch.exp(a), 1 + a).backward()",
        "torch.exp(a)",
        "ExpBackward0",
    ),
}


@pytest.mark.parametrize("name", BACKWARD_BIRTHS)
def test_the_op_that_broke_the_gradient_is_named_with_its_line(name, tmp_path):
    code, text, op = BACKWARD_BIRTHS[name]
    found = [f for f in findings(code, tmp_path) if f.severity == "error"]
    assert told(found) == [("nonfinite-origin", text)]
    assert op in found[0].message


def test_a_masked_sqrt_is_blamed_on_the_sqrt_with_its_element_its_mask_and_the_remedy(tmp_path):
    (found,) = findings(MODULE, tmp_path)
    assert "x[1] is 0" in found.message
    assert "sqrt at 0" in found.message
    assert "WhereBackward0 `torch.where(x > 0, x.sqrt(), torch.zeros_like(x))`" in found.message
    assert found.hint.startswith("mask the input, not the output")


def test_a_sqrt_that_is_not_masked_is_not_said_to_be(tmp_path):
    (found,) = findings(HALF, tmp_path)
    assert "masked" not in found.message + found.hint


def test_infinity_first_and_nan_later_is_one_story_with_its_birth(tmp_path):
    (found,) = findings("x = torch.zeros(3, requires_grad=True)\nx.pow(2).sum().sqrt().backward()", tmp_path)
    assert found.source.text == "x.pow(2).sum().sqrt()"
    assert "sent on infinity" in found.message
    assert "NaN, first in PowBackward0 `x.pow(2)`" in found.message


def test_the_same_birth_in_many_passes_is_one_finding_with_the_first_pass_and_a_count(tmp_path):
    (found,) = [f for f in findings(SECOND, tmp_path) if f.severity == "error"]
    assert (found.pass_index, found.count) == (2, 2)


def test_a_broken_seed_is_blamed_on_the_call(tmp_path):
    code = "x = torch.ones(2, requires_grad=True)\n(x * 2).backward(torch.tensor([1., float('nan')]))"
    (found,) = findings(code, tmp_path)
    assert "was started" in found.message


def test_a_nan_that_reaches_no_leaf_is_told_but_is_no_error(tmp_path):
    code = """
    x = torch.tensor([-1., 2.], requires_grad=True)
    d = x.relu()
    torch.where(d > 0, d.sqrt(), d).sum().backward()
    """
    (found,) = findings(code, tmp_path)
    assert (found.check, found.severity) == ("nonfinite-origin", "info")


FORWARD_BIRTHS = {
    "overflow": (
        "w = torch.tensor([100., 1.], requires_grad=True)\np = torch.exp(w)\n(p / p.sum()).log().sum().backward()",
        "torch.exp(w)",
        "w[0] is 100",
    ),
    "log of zero": (
        "x = torch.tensor([0., 1.], requires_grad=True)\ntorch.log(x).sum().backward()",
        "torch.log(x)",
        "x[0] is 0",
    ),
    "sqrt of a negative": (LOOP, "torch.sqrt(x - step * 0.5)", "is -0.5"),
    "a row masked as a whole": (
        "s = torch.randn(2, 3, requires_grad=True)\nm = torch.tensor([[1, 1, 1], [0, 1, 0]]).bool()\n"
        "s.masked_fill(m, -torch.inf).softmax(-1).sum().backward()",
        "s.masked_fill(m, -torch.inf).softmax(-1)",
        "infinities into NaN",
    ),
    "half overflow": (
        "x = torch.tensor([300., 1.], dtype=torch.float16, requires_grad=True)\n(x * x).sum().backward()",
        "x * x",
        "x[0] is 300",
    ),
    "data": (
        "net = nn.Linear(2, 1)\nx = torch.tensor([[1., torch.nan]])\nnet(x).mean().backward()",
        "net(x)",
        "given data",
    ),
}


@pytest.mark.parametrize("name", FORWARD_BIRTHS)
def test_a_fault_of_the_forward_is_told_and_the_backward_is_kept_quiet(name, tmp_path):
    code, text, said = FORWARD_BIRTHS[name]
    found = [f for f in findings(code, tmp_path) if f.severity == "error"]
    assert ("nonfinite-forward", text) in told(found)
    assert {f.pass_index for f in found if f.check == "nonfinite-origin"}.isdisjoint(
        f.pass_index for f in found if f.check == "nonfinite-forward"
    )
    assert said in next(f for f in found if f.check == "nonfinite-forward").message


def test_a_parameter_that_is_nan_itself_is_named(tmp_path):
    code = """
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight[0, 0] = torch.nan
    net(torch.ones(1, 2)).sum().backward()
    """
    (found,) = findings(code, tmp_path)
    assert found.message.startswith("net.weight itself holds NaN")


HEALTHY = {
    "an attention mask": (
        "s = torch.randn(2, 3, requires_grad=True)\nm = torch.tensor([[1, 0, 0], [0, 1, 0]]).bool()\n"
        "(s.masked_fill(m, -torch.inf).softmax(-1) * torch.randn(2, 3)).sum().backward()"
    ),
    "an additive mask": (
        "s = torch.randn(2, 3, requires_grad=True)\nm = torch.tensor([[0, -torch.inf, 0], [0, 0, 0]])\n"
        "(torch.softmax(s + m, -1) * torch.randn(2, 3)).sum().backward()"
    ),
    "a mask of the input": (
        "x = torch.tensor([4., 0.], requires_grad=True)\nsafe = torch.where(x > 0, x, 1.)\n"
        "torch.where(x > 0, safe.sqrt(), 0.).sum().backward()"
    ),
    "a square root with eps": "x = torch.zeros(3, requires_grad=True)\n(x + 1e-6).sqrt().sum().backward()",
    "a very large gradient": "x = torch.tensor([1e-12], requires_grad=True)\nx.sqrt().sum().backward()",
    "no gradient at all": (
        "class One(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x, y): return x + y\n"
        "    @staticmethod\n    def backward(ctx, g): return g, None\n"
        "x, y = torch.ones(2, requires_grad=True), torch.ones(2)\nOne.apply(x, y).sum().backward()"
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_only_looks_broken_is_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()


def test_the_overflow_that_a_grad_scaler_looks_for_is_no_error(tmp_path):
    code = """
    scaler = torch.amp.GradScaler("cpu", init_scale=2.**15)
    w = torch.ones(4, dtype=torch.float16, requires_grad=True)
    loss = (w * 100).sum().float()
    scaler.scale(loss).backward()
    """
    assert [f.severity for f in findings(code, tmp_path)] == ["info"]
