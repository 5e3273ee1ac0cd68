"""Copies that begin a graph of their own, cuts of one pass among several, and gradients that the script writes itself."""

from __future__ import annotations

import pytest
import torch

from gradtrace.checks import checker
from gradtrace.recording.recorder import Options, Recorder
from tests.checking import findings

TWO = "a, b, x = nn.Linear(3, 3), nn.Linear(3, 1), torch.randn(4, 3)\n"
STEP = "opt = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1)\n"

# The line that cut, words of the message, the severity; the script.
CUT = {
    "Variable of .data": (
        "a(x).data", "a.weight, a.bias", "warning",
        TWO + STEP + "from torch.autograd import Variable\nh = Variable(a(x).data, requires_grad=True)\nb(h).sum().backward()\nopt.step()",
    ),
    "tensor of a tensor": (
        "torch.tensor(h, requires_grad=True)", "copied by torch.tensor()", "warning",
        TWO + STEP + "h = a(x)\nh = torch.tensor(h, requires_grad=True)\nb(h).sum().backward()\nopt.step()",
    ),
    "tensor of items": (
        "loss.item()", "by .item()", "warning",
        TWO + STEP + "loss = b(a(x)).mean()\nloss = torch.tensor([loss.item()], requires_grad=True)\n"
        "loss.sum().backward()\nopt.step()",
    ),
    ".data of a parameter": (
        "b.weight.data", "put into the .data", "warning",
        "h, b, x = nn.Linear(2, 3), nn.Linear(3, 1), torch.randn(4, 3)\nopt = torch.optim.SGD(h.parameters(), 0.1)\n"
        "b.weight.data = h(torch.ones(1, 2))\nb(x).sum().backward()\nopt.step()",
    ),
    "requires_grad_ of what was cut": (
        "a(x).detach()", "a.weight, a.bias", "warning",
        TWO + STEP + "h = a(x).detach().requires_grad_()\nb(h).sum().backward()\nopt.step()",
    ),
    "a term that trains nothing": (
        "a.weight.pow(2)", "added to the loss and trains nothing", "info",
        TWO + STEP + "with torch.no_grad():\n    p = a.weight.pow(2).sum()\n"
        "for _ in range(2):\n    opt.zero_grad()\n    (b(a(x)).mean() + p).backward()\n    opt.step()",
    ),
    "a teacher in the optimizer": (
        "a(x)", "all that used them ran without a graph", "info",
        TWO + STEP + "for _ in range(2):\n    opt.zero_grad()\n    with torch.no_grad():\n        y = a(x)\n"
        "    (b(x) - y.mean(1, True)).pow(2).mean().backward()\n    opt.step()",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor", "ignore:Converting a tensor with requires_grad")
@pytest.mark.parametrize("name", CUT)
def test_a_copy_that_begins_a_graph_of_its_own_is_named_with_its_line(name, tmp_path):
    line, words, severity, code = CUT[name]
    found = [f for f in findings(code, tmp_path) if f.check == "detached"]
    assert [(f.source.text, f.severity) for f in found] == [(line, severity)]
    assert words in found[0].message


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_weight_that_an_update_replaced_is_no_leaf_from_there_on(tmp_path):
    code = (
        "w = torch.ones(3, requires_grad=True)\nfor _ in range(2):\n    (w * 2).sum().backward()\n"
        "    w = w - 0.1 * w.grad"
    )
    found = findings(code, tmp_path)
    assert [(f.check, f.source.text) for f in found] == [("not-a-leaf", "w - 0.1 * w.grad")]
    assert "w.grad is None at train.py:7" in found[0].message


def test_parameters_frozen_by_their_module_are_named_with_the_line(tmp_path):
    code = "net = nn.Linear(2, 1)\nnet.requires_grad_(False)\nloss = net(torch.ones(3, 2)).sum()\nloss.backward()"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text) == ("no-grad-output", "loss.backward()")
    assert (
        "net.weight, net.bias have requires_grad=False, set at `net.requires_grad_(False)` (train.py:5)"
        in found.message
    )


HEALTHY = {
    "a shared model of A3C": "import copy\nshared = nn.Linear(2, 1)\nopt = torch.optim.SGD(shared.parameters(), 0.1)\n"
    "for _ in range(2):\n    local = copy.deepcopy(shared)\n    local(torch.ones(3, 2)).mean().backward()\n"
    "    for p, q in zip(shared.parameters(), local.parameters()):\n        p._grad = q.grad\n    opt.step()",
    "master weights": "net = nn.Linear(2, 1).to(torch.bfloat16)\nmaster = [p.detach().float() for p in net.parameters()]\n"
    "opt = torch.optim.SGD([m.requires_grad_() for m in master], 0.1)\nfor _ in range(2):\n"
    "    net.zero_grad()\n    net(torch.ones(3, 2, dtype=torch.bfloat16)).float().mean().backward()\n"
    "    for m, p in zip(master, net.parameters()):\n        m.grad = p.grad.float()\n    opt.step()\n"
    "    for m, p in zip(master, net.parameters()):\n        p.data.copy_(m.data)",
    "first-order MAML": "import copy\nnet = nn.Linear(2, 1)\nopt = torch.optim.Adam(net.parameters())\nfor _ in range(2):\n"
    "    fast = copy.deepcopy(net)\n    inner = torch.optim.SGD(fast.parameters(), 0.1)\n"
    "    fast(torch.ones(3, 2)).pow(2).mean().backward()\n    inner.step()\n    inner.zero_grad()\n"
    "    fast(torch.ones(3, 2)).pow(2).mean().backward()\n    opt.zero_grad()\n"
    "    for p, q in zip(net.parameters(), fast.parameters()):\n        p.grad = q.grad.clone()\n    opt.step()",
    "a straight-through number": "x = torch.tensor(0.4, requires_grad=True)\nfor _ in range(2):\n"
    "    x.grad = None\n    (x + (x.round() - x).detach()).pow(2).backward()",
    "a copy that is kept": "import copy\nnet = nn.Linear(2, 1)\nopt = torch.optim.SGD(net.parameters(), 0.1)\n"
    "best = copy.deepcopy(net.state_dict())\nfor _ in range(2):\n    opt.zero_grad()\n"
    "    net(torch.ones(3, 2)).sum().backward()\n    opt.step()\n    best = copy.deepcopy(net)",
    "a gradient that was kept": "x = torch.rand(3, requires_grad=True)\ny = x * 2\ny.retain_grad()\ny.sum().backward()\ny.grad",
    "a leaf that has none yet": "x = torch.rand(3, requires_grad=True)\nx.grad\nx.sum().backward()",
    "a parameter made of numbers": "w = nn.Parameter(torch.randn(3) * 0.1)\nw.sum().backward()",
    "a frozen backbone": "a, b = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1)\n"
    "opt = torch.optim.SGD(b.parameters(), 0.1)\nb(a(torch.ones(3, 2))).sum().backward()\nopt.step()",
    "a weight of the loss that follows it": "w = torch.ones(3, requires_grad=True)\nloss = w.pow(2).sum()\n"
    "(loss + loss.detach()).backward()",
}


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("name", HEALTHY)
def test_a_gradient_that_the_script_writes_is_a_gradient_and_other_near_misses(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()


def converted(dead):
    """Return a parameter made of one that dies here, and whose id the next tensors may get."""
    net = torch.nn.Linear(3, 3)
    with torch.no_grad():
        made = torch.nn.Parameter(net.weight.double())
    between = [torch.randn(2) for _ in range(dead)]
    assert len(between) == dead
    return made


def test_a_variable_is_not_taken_for_the_dead_parameter_that_had_its_id():
    for dead in range(60):
        with Recorder(Options(facts=True)) as recorder:
            w, x = converted(dead % 17), torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
            others = [torch.nn.Parameter(torch.ones(2)) for _ in range(5)]
            a, b, c, d, e = (torch.ones(2) for _ in range(5))
            (w * x).sum().backward()
        assert [*others, a, b, c, d, e]
        assert not list(checker.run(recorder.trace)), dead
