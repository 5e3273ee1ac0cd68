"""Errors of autograd, each raised by PyTorch itself and explained; the table in the docs is the one of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradtrace.checks.autograd_errors import MESSAGES
from tests.checking import findings, recorded

DOCS = Path(__file__).parent.parent.parent / "docs" / "checks.md"
FUNCTION = """
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        {forward}
        return x * 2
    @staticmethod
    {once}
    def backward(ctx, g):
        return {backward}
x = torch.ones(3, requires_grad=True)
"""


def function(forward="pass", backward="g * 2", once=""):
    return FUNCTION.format(forward=forward, backward=backward, once=once)


# The line that is named, words of what to write instead; the script.
RAISED = {
    "no second derivative of fused attention": (
        "nn.functional.scaled_dot_product_attention(x, x, x)", "SDPBackend.MATH",
        "x = torch.randn(1, 1, 4, 8, requires_grad=True)\nh = nn.functional.scaled_dot_product_attention(x, x, x)\n"
        "g, = torch.autograd.grad(h.sum(), x, create_graph=True)\ng.pow(2).sum().backward()",
    ),
    "no second derivative": (
        "nn.functional.ctc_loss(p, torch.tensor([[1, 2]]), (4,), (2,))", "custom Function",
        "p = torch.randn(4, 1, 3).log_softmax(-1).requires_grad_()\n"
        "loss = nn.functional.ctc_loss(p, torch.tensor([[1, 2]]), (4,), (2,))\n"
        "g, = torch.autograd.grad(loss, p, create_graph=True)\ng.pow(2).sum().backward()",
    ),
    "no derivative by an argument": (
        "torch.igamma(a, torch.ones(3))", "detach() that argument",
        "a = torch.ones(3, requires_grad=True)\ntorch.igamma(a, torch.ones(3)).sum().backward()",
    ),
    "a leaf in place": ("x += 1", "torch.no_grad()", "x = torch.ones(3, requires_grad=True)\nx += 1"),
    "a part of a leaf": ("x[0]", "torch.no_grad()", "x = torch.ones(3, requires_grad=True)\nx[0] = 5."),
    "an inference tensor": (
        "w * x", "x.clone()",
        "with torch.inference_mode():\n    x = torch.ones(3)\nw = torch.ones(3, requires_grad=True)\n(w * x).sum().backward()",
    ),
    "one of several views": (
        "a.mul_(2)", "out of place",
        "x = torch.ones(2, 3, requires_grad=True) * 1\na, b = x.unbind(0)\na.mul_(2)",
    ),
    "a wrong number of gradients": ("F.apply(x)", "one gradient for each argument", function(backward="(g, g)") + "F.apply(x).sum().backward()"),
    "a wrong shape": ("F.apply(x)", "of its shape", function(backward="torch.ones(5)") + "F.apply(x).sum().backward()"),
    "once differentiable": (
        "g.sum().backward()", "without once_differentiable",
        function(once="@torch.autograd.function.once_differentiable", backward="g * 2")
        + "g, = torch.autograd.grad(F.apply(x).pow(2).sum(), x, create_graph=True)\ng.sum().backward()",
    ),
    "a seed of another shape": ("y.backward(torch.ones(2))", "torch.ones_like", "y = torch.ones(3, requires_grad=True) * 2\ny.backward(torch.ones(2))"),
    "an input without grad": (
        "torch.autograd.grad(y, x)", "x.requires_grad_()",
        "x, w = torch.ones(3), torch.ones(3, requires_grad=True)\ny = (x * w).sum()\ntorch.autograd.grad(y, x)",
    ),
    "flags of what was computed": ("y.requires_grad", "detach()", "y = torch.ones(3, requires_grad=True) * 2\ny.requires_grad = False"),
    "an optimizer of what was computed": (
        "torch.optim.SGD([w], 0.1)", "make the leaf last", "w = torch.ones(3, requires_grad=True) * 2\ntorch.optim.SGD([w], 0.1)",
    ),
    "integers": ("torch.tensor([1, 2], requires_grad=True)", "floating point", "torch.tensor([1, 2], requires_grad=True)"),
    "numpy": ("w.numpy()", "x.detach().cpu().numpy()", "w = torch.ones(3, requires_grad=True)\nw.numpy()"),
    "a hook without a gradient": ("torch.ones(3).register_hook(print)", "requires_grad_()", "torch.ones(3).register_hook(print)"),
    "deepcopy of what was computed": (
        "copy.deepcopy(h)", "h.detach()", "import copy\nh = torch.ones(3, requires_grad=True) * 2\ncopy.deepcopy(h)",
    ),
    "a complex loss": ("z.backward()", "loss.abs()", "z = torch.ones((), dtype=torch.complex64, requires_grad=True) * 1j\nz.backward()"),
    "save_for_backward of a number": ("F.apply(x)", "attributes of ctx", function(forward="ctx.save_for_backward(3)") + "F.apply(x)"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected in")
@pytest.mark.parametrize("name", RAISED)
def test_an_error_of_autograd_is_explained_on_its_line(name, tmp_path):
    line, words, code = RAISED[name]
    found = [f for f in findings(code, tmp_path) if f.severity == "error"]
    assert [(f.check, f.source.text) for f in found] == [("autograd-error", line)]
    assert words in found[0].hint


@pytest.mark.parametrize("name", RAISED)
@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected in")
def test_the_first_message_that_fits_is_the_only_one_of_its_kind(name, tmp_path):
    error = recorded(RAISED[name][2], tmp_path).error
    assert error is not None
    fitting = [m for m in MESSAGES if re.search(m.pattern, error.message)]
    assert len({m.meaning for m in fitting}) == (2 if "attention" in name else 1)


@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected in")
def test_what_anomaly_mode_stops_at_is_told_once_with_its_element(tmp_path):
    code = "with torch.autograd.set_detect_anomaly(True):\n    x = torch.zeros((), requires_grad=True)\n"
    code += "    y = x.sqrt() * 0\n    y.backward()"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text) == ("nonfinite-origin", "x.sqrt()")


def test_an_error_that_is_caught_is_no_finding(tmp_path):
    code = "x = torch.ones(3, requires_grad=True)\ntry:\n    x += 1\nexcept RuntimeError:\n    pass\n(x * 2).sum().backward()"
    assert findings(code, tmp_path) == ()


def test_an_error_that_is_not_of_autograd_is_not_explained(tmp_path):
    assert findings("torch.ones(3) @ torch.ones(4)", tmp_path) == ()


def test_the_table_in_the_docs_has_each_message():
    text = DOCS.read_text(encoding="utf-8")
    assert [m.meaning for m in MESSAGES if f"| {m.meaning} | {m.instead} |" not in text] == []
