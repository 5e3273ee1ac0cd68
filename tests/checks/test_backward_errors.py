"""PyTorch's errors in backward, told with the lines that are to blame."""

from __future__ import annotations

import pytest

from tests.checking import findings

TWICE = {
    "the same loss": (
        "x = torch.tensor(2., requires_grad=True)\ny = x ** 2\ny.backward()\ny.backward()",
        ["the same graph", "pass 1, `y.backward()` (train.py:6)"],
    ),
    "a shared encoding": (
        "enc, a, b = nn.Linear(2, 3), nn.Linear(3, 1), nn.Linear(3, 1)\nz = enc(torch.randn(4, 2)).tanh()\n"
        "a(z).mean().backward()\nb(z).mean().backward()",
        ["`a(z).mean().backward()` (train.py:6)", "'z', made by TanhBackward0"],
    ),
    "the state of an RNN": (
        "cell, h = nn.RNNCell(2, 3), torch.zeros(1, 3)\nfor _ in range(3):\n"
        "    h = cell(torch.randn(1, 2), h)\n    h.pow(2).sum().backward()",
        ["`h.pow(2).sum().backward()` (train.py:7)", "TanhBackward0 `cell(torch.randn(1, 2), h)`"],
    ),
    "inside a module": (
        "class Memory(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w, self.m = nn.Parameter(torch.ones(2)), torch.zeros(2)\n"
        "    def forward(self, x):\n        self.m = (self.m + x * self.w).tanh()\n        return self.m\n"
        "net = Memory()\nfor _ in range(2):\n    net(torch.ones(2)).sum().backward()",
        ["pass 1", "(self.m + x * self.w).tanh()", "train.py:9 in net"],
    ),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_second_backward_names_the_call_that_freed_the_graph_and_what_ties_both(name, tmp_path):
    code, said = TWICE[name]
    (found,) = findings(code, tmp_path)
    assert (found.check, found.severity, found.pass_index) == ("backward-twice", "error", 2)
    assert [words for words in said if words not in found.message] == []


CHANGED = {
    "add_": (
        "x = torch.ones(2, requires_grad=True)\ny = x.exp()\ny.add_(1)\ny.sum().backward()",
        "y.add_(1)", "ExpBackward0 `x.exp()` (train.py:5)",
    ),
    "item assignment": (
        "x = torch.ones(2, requires_grad=True)\ny = x * 2\nz = y ** 2\ny[0] = 5\nz.sum().backward()",
        "y[0]", "PowBackward0 `y ** 2` (train.py:6)",
    ),
    "plus-equals": (
        "x = torch.ones(2, requires_grad=True)\ny = x.sigmoid()\ny += 1\ny.sum().backward()",
        "y += 1", "SigmoidBackward0 `x.sigmoid()`",
    ),
    "an inplace relu in a module": (
        "net = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.ReLU(inplace=True))\n"
        "net(torch.ones(1, 2)).sum().backward()",
        "net(torch.ones(1, 2))", "SigmoidBackward0",
    ),
    "a step between two backwards": (
        "net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))\nopt = torch.optim.SGD(net.parameters(), 0.1)\n"
        "loss = net(torch.ones(1, 2)).sum()\nloss.backward(retain_graph=True)\nopt.step()\nloss.backward()",
        "opt.step()", "AddmmBackward0 `net(torch.ones(1, 2))`",
    ),
    "in the second round of a loop": (
        "x = torch.ones(2, requires_grad=True)\nfor step in range(3):\n    y = x.tanh()\n    if step == 1:\n"
        "        y.mul_(2)\n    y.sum().backward()",
        "y.mul_(2)", "TanhBackward0 `x.tanh()`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_in_place_names_the_op_that_saved_and_the_line_that_changed(name, tmp_path):
    code, line, saver = CHANGED[name]
    (found,) = [f for f in findings(code, tmp_path) if f.severity == "error"]
    assert (found.check, found.source.text) == ("modified-in-place", line)
    assert saver in found.message
    assert "version 0 was saved, it is at 1 now" in found.message or "step" in name


CUT = {
    "no_grad": ("with torch.no_grad():\n    out = net(x)\nout.mean().backward()", "net(x)", "no_grad"),
    "detach": ("loss = net(x).detach().mean()\nloss.backward()", "net(x).detach()", "detached"),
    "data": ("loss = net(x).data.mean()\nloss.backward()", "net(x).data", ".data"),
    "argmax": ("acc = (net(x).argmax(1) == 1).float().mean()\nacc.backward()", "net(x).argmax(1)", "argmax"),
    "comparison": ("acc = (net(x) > 0).float().mean()\nacc.backward()", "net(x) > 0", "no derivative"),
    "decorated function": (
        "@torch.no_grad()\ndef evaluate():\n    return net(x).mean()\nevaluate().backward()", "net(x)", "no_grad",
    ),
    "left torch": ("loss = torch.tensor(net(x).mean().item())\nloss.backward()", "net(x).mean().item()", ".item()"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_an_output_without_a_graph_names_the_line_that_cut_it(name, tmp_path):
    code, line, how = CUT[name]
    (found,) = findings(f"net, x = nn.Linear(2, 2), torch.ones(3, 2)\n{code}", tmp_path)
    assert (found.check, found.source.text) == ("no-grad-output", line)
    assert how in found.message


def test_backward_from_a_vector_names_it_with_its_shape(tmp_path):
    code = "def step(x):\n    pred = x * 2\n    pred.backward()\nstep(torch.randn(3, requires_grad=True))"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text) == ("not-scalar", "pred.backward()")
    assert "pred has the shape (3,)" in found.message


def test_an_input_that_the_output_does_not_depend_on_is_named(tmp_path):
    code = """
    x = torch.randn(3, requires_grad=True)
    w = torch.randn(3, requires_grad=True)
    y = (x * 2).sum()
    torch.autograd.grad(y, [x, w])
    """
    (found,) = findings(code, tmp_path)
    assert found.check == "unused-input"
    assert "w of shape (3,)" in found.message
    assert "x of" not in found.message


HEALTHY = {
    "retained on purpose": "x = torch.tensor(2., requires_grad=True)\ny = x ** 3\ntorch.autograd.grad(y, x, retain_graph=True)\n"
    "torch.autograd.grad(y, x)",
    "a state that is detached": "cell, h = nn.RNNCell(2, 3), torch.randn(1, 3)\nfor _ in range(3):\n"
    "    h = cell(torch.randn(1, 2), h.detach())\n    cell.zero_grad()\n    h.pow(2).sum().backward()",
    "in place where nothing was saved": "x = torch.ones(2, requires_grad=True)\n(x * 2).add_(1).mul_(3).sum().backward()",
    "an unused input that is allowed": "x, w = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)\n"
    "torch.autograd.grad(x * 2, [x, w], allow_unused=True)",
    "an error that the script expects": "x = torch.ones(2, requires_grad=True)\nx.sum().backward()",
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_done_on_purpose_is_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()
