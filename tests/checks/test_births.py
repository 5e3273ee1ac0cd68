"""Births of values that are not finite, for each function that has a reason: in the graph, outside it, and far back."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from gradtrace.singularities import SLOPES, VALUES
from tests.checking import findings

NAMES = "xyz"
# A function with one of its points, whose operands are finite.
POINTS = [(name, p) for name, points in VALUES.items() for p in points if all(map(math.isfinite, p.example))]
IDS = [f"{name} at {p.example}" for name, p in POINTS]


def operands(name, point, *, grad):
    """Lines that make each operand of three elements, the point's at the second place."""
    fine = 1.5 if name == "acosh" else 0.7
    more = ", requires_grad=True" if grad else ""
    return "".join(
        f"{n} = torch.tensor([{fine}, {v}, {fine}]{more})\n" for n, v in zip(NAMES, point.example, strict=False)
    )


def call(name, point):
    return f"torch.{name}({', '.join(NAMES[: len(point.example)])})"


@pytest.mark.parametrize(("name", "point"), POINTS, ids=IDS)
def test_a_value_that_is_not_finite_has_its_reason_at_its_element(name, point, tmp_path):
    (found,) = findings(f"{operands(name, point, grad=True)}h = {call(name, point)}\nh.sum().backward()", tmp_path)
    assert (found.check, found.source.text) == ("nonfinite-forward", call(name, point))
    assert point.said in found.message
    assert f"x[1] is {point.example[0]:g}" in found.message
    assert found.hint == point.remedy


@pytest.mark.parametrize(("name", "point"), POINTS, ids=IDS)
def test_outside_the_graph_it_is_followed_back_to_the_call_that_made_it(name, point, tmp_path):
    code = f"{operands(name, point, grad=False)}w = torch.ones(3, requires_grad=True)\nwith torch.no_grad():\n"
    code += f"    h = {call(name, point)}\n    h = h.view(3, 1).squeeze() * 1.5\n(w * h[1:].sum()).sum().backward()"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text) == ("nonfinite-forward", call(name, point))
    assert point.said in found.message
    assert "input data" not in found.hint


SLOPED = [(name, p) for name, points in SLOPES.items() for p in points if not p.by and name != "div"]


@pytest.mark.parametrize(("name", "point"), SLOPED, ids=[f"{name} at {p.example}" for name, p in SLOPED])
def test_a_derivative_that_is_not_finite_has_its_reason_where_a_mask_hides_the_value(name, point, tmp_path):
    second = f", {point.example[1]}" if name == "pow" else ""
    code = (
        operands(name, replace(point, example=point.example[:1]), grad=True)
        + "keep = torch.tensor([True, False, True])\n"
    )
    code += f"torch.where(keep, torch.{name}(x{second}), 0.).sum().backward()"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text) == ("nonfinite-origin", f"torch.{name}(x{second})")
    assert point.said in found.message
    assert "masked later, at WhereBackward0" in found.message


ONE_STORY = {
    "a consequence of an overflow": "z = torch.tensor([100., 1.], requires_grad=True)\np = torch.exp(z)\n"
    "(p / p.sum()).log().sum().backward()",
    "a learning rate that is too large": "net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))\n"
    "opt, x = torch.optim.SGD(net.parameters(), 10.), torch.randn(16, 4)\nfor _ in range(30):\n    opt.zero_grad()\n"
    "    nn.functional.mse_loss(net(x), torch.ones(16, 1)).backward()\n    opt.step()",
    "two matrices of one value": "x = torch.eye(3, requires_grad=True)\ntorch.linalg.eigh(x)[1].pow(3).sum().backward()",
    "a singular matrix": "x = torch.zeros(3, 3, requires_grad=True)\ntorch.linalg.slogdet(x)[1].backward()",
}


@pytest.mark.parametrize("name", ONE_STORY)
def test_a_story_with_consequences_is_one_finding(name, tmp_path):
    found = [f for f in findings(ONE_STORY[name], tmp_path) if f.severity == "error"]
    assert len(found) == 1


GIVEN = {
    "data that was read": (
        "import numpy\nx = torch.from_numpy(numpy.array([1., numpy.nan], dtype='f4'))",
        "which no call",
    ),
    "a constant": ("x = torch.tensor([1., torch.inf])", "written by `torch.tensor([1., torch.inf])`"),
    "an element": ("x = torch.ones(2)\nx[1] = torch.nan", "written by `x[1]`"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_came_in_so_is_told_apart_from_what_was_computed(name, tmp_path):
    code, said = GIVEN[name]
    (found,) = findings(f"{code}\nw = torch.ones(2, requires_grad=True)\n(w * x).sum().backward()", tmp_path)
    assert (found.check, found.source.text) == ("nonfinite-forward", "w * x")
    assert said in found.message
    assert ("input data" in found.hint) == (name == "data that was read")


NEVER_QUIET = {
    "a mask that reaches the loss": "s = torch.randn(3, requires_grad=True)\n"
    "s.masked_fill(torch.tensor([True, False, False]), -torch.inf).sum().backward()",
    "a function of one's own": "class F(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x / 0\n"
    "    @staticmethod\n    def backward(ctx, g): return g\nF.apply(torch.ones(30, requires_grad=True)).sum().backward()",
    "a large tensor": "x = torch.zeros(400, requires_grad=True)\nx.log().mean().backward()",
    "half precision": "x = torch.full((40,), 300.).half().requires_grad_()\n(x * x).sum().backward()",
    "two dtypes": "x = torch.full((40,), 300.).half().requires_grad_()\n(x * x).float().sum().backward()",
    "in place": "x = torch.zeros(3, requires_grad=True)\ny = x * 1\ny.log_()\ny.sum().backward()",
    "in a list": "x = torch.zeros(3, requires_grad=True)\ntorch.stack([x.log(), x]).sum().backward()",
    "an assigned part": "x, b = torch.zeros(3, requires_grad=True), torch.ones(5)\nb[:3] = x.log()\nb.sum().backward()",
    "an optimizer's step": "w = nn.Parameter(torch.ones(2))\nopt = torch.optim.SGD([w], torch.inf)\n"
    "for _ in range(2):\n    opt.zero_grad()\n    w.sum().backward()\n    opt.step()",
    "a compiled norm": "x = torch.full((9,), 1e30, requires_grad=True)\n(x * x).norm().backward()",
    "ctc": "p = torch.randn(4, 1, 3).log_softmax(-1).requires_grad_()\n"
    "nn.functional.ctc_loss(p, torch.tensor([[1, 1, 2, 2]]), (4,), (4,)).backward()",
}


@pytest.mark.parametrize("name", NEVER_QUIET)
def test_a_pass_whose_output_is_not_finite_has_an_error(name, tmp_path):
    found = findings(NEVER_QUIET[name], tmp_path)
    assert [f.check for f in found if f.severity == "error"] == ["nonfinite-forward"]


def test_a_ctc_target_that_is_too_long_is_named(tmp_path):
    (found,) = findings(NEVER_QUIET["ctc"], tmp_path)
    assert "target 0 of 4 labels needs 6 steps, blanks between repeats included, and has 4" in found.message
    assert "zero_infinity=True" in found.hint
    assert "rate" not in found.hint


HEALTHY = {
    "a sigmoid by hand": "x = torch.tensor([-200., 1.])\nw = torch.ones(2, requires_grad=True)\n(w / (1 + torch.exp(-x))).sum().backward()",
    "masked_fill and logsumexp": "s = torch.randn(4, requires_grad=True)\n"
    "torch.logsumexp(s.masked_fill(torch.tensor([True, False, False, True]), -torch.inf), 0).backward()",
    "a minimum that starts at infinity": "best = torch.tensor(torch.inf)\nw = torch.ones(3, requires_grad=True)\n"
    "loss = w.pow(2).sum()\nbest = torch.minimum(best, loss.detach())\nloss.backward()",
    "missing values replaced": "x = torch.tensor([1., torch.nan, 3.])\nw = torch.ones(3, requires_grad=True)\n"
    "(w * torch.nan_to_num(x)).sum().backward()",
    "missing labels selected": "y = torch.tensor([1., torch.nan, 3.])\np = torch.ones(3, requires_grad=True)\n"
    "ok = ~y.isnan()\n((p[ok] - y[ok]) ** 2).mean().backward()",
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_an_infinity_that_goes_nowhere_is_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()
