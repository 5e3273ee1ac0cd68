"""Parameters without a gradient, told apart; and those that have none on purpose."""

from __future__ import annotations

import pytest

from tests.checking import findings

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
    def forward(self, x):
        h = self.a(x)
        {cut}
        return self.b(h).pow(2).mean()
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
for _ in range(3):
    opt.zero_grad()
    net(torch.randn(3, 2)).backward()
    opt.step()
"""


def by_check(found):
    return {finding.check: finding for finding in found}


def test_a_parameter_that_was_never_used_and_one_that_was_cut_off_are_told_apart(tmp_path):
    found = by_check(findings(NET.format(cut="h = h.detach()"), tmp_path))
    assert set(found) == {"unreached-leaf", "detached"}
    assert found["unreached-leaf"].message.startswith("net.c.weight, net.c.bias: got no gradient in any pass")
    assert "never used" in found["unreached-leaf"].message
    assert found["detached"].source.text == "h.detach()"
    assert "net.a.weight, net.a.bias" in found["detached"].message


CUTS = {
    "data": ("h = h.data", "h.data"),
    "an integer op": ("h = (h > 0).float()", "h > 0"),
    "argmax": ("h = nn.functional.one_hot(h.argmax(1), 2).float()", "h.argmax(1)"),
}


@pytest.mark.parametrize("name", CUTS)
def test_each_way_to_cut_a_graph_is_found_on_its_line(name, tmp_path):
    cut, text = CUTS[name]
    found = by_check(findings(NET.format(cut=cut), tmp_path))
    assert found["detached"].source.text == text


def test_a_result_that_goes_nowhere_is_used_but_cut_off(tmp_path):
    (found,) = findings(NET.format(cut="self.c(h)"), tmp_path)
    assert found.check == "unreached-leaf"
    assert "net.c.weight, net.c.bias" in found.message
    assert "were used in the forward" in found.message


def test_a_function_that_returns_none_for_a_leaf_is_named(tmp_path):
    code = """
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, s):
            return x * s
        @staticmethod
        def backward(ctx, grad):
            return grad, None
    x, s = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    Scale.apply(x, s).sum().backward()
    """
    (found,) = findings(code, tmp_path)
    assert found.check == "unreached-leaf"
    assert found.message.startswith("s got no gradient: ScaleBackward `Scale.apply(x, s)`")


DEAD = {
    "relu": (
        "nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))",
        "nn.init.constant_(net[0].bias, -100)",
        "dead ReLU",
    ),
    "sigmoid": (
        "nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 1))",
        "nn.init.constant_(net[0].bias, 500)",
        "saturated",
    ),
}


@pytest.mark.parametrize("name", DEAD)
def test_a_branch_that_died_is_blamed_on_the_op_where_it_did(name, tmp_path):
    net, kill, said = DEAD[name]
    (found,) = findings(f"net = {net}\n{kill}\nnet(torch.randn(5, 4)).mean().backward()", tmp_path)
    assert (found.check, found.severity) == ("zero-gradient", "warning")
    assert said in found.message
    assert "net.1" in found.message


@pytest.mark.parametrize("op", ["x.round()", "x.clamp(0, 1)", "x.sign()", "x.floor()"])
def test_an_op_without_a_slope_is_named(op, tmp_path):
    (found,) = findings(f"x = torch.tensor([2.2, 3.3], requires_grad=True)\n({op} * 2).sum().backward()", tmp_path)
    assert (found.check, found.source.text) == ("zero-gradient", op)


NOTHING = {
    "a net whose ReLUs are all off": (
        "net(x)",
        "net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())\nnn.init.constant_(net[0].bias, -100)",
    ),
    "a function's": ("net(x).relu()", "net = nn.Linear(4, 8)\nnn.init.constant_(net.bias, -100)"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_loss_that_is_zero_because_a_layer_let_nothing_through_is_told(name, tmp_path):
    call, net = NOTHING[name]
    (found,) = findings(f"{net}\nx = torch.randn(5, 4)\n{call}.mean().backward()", tmp_path)
    assert (found.check, found.source.text) == ("zero-gradient", call)
    assert "dead ReLU" in found.message


HEALTHY = {
    "a hinge that is satisfied": "net = nn.Linear(4, 1)\nnn.init.constant_(net.bias, 100)\n"
    "(1 - net(torch.randn(5, 4))).relu().mean().backward()",
    "a margin that is kept": "net = nn.Linear(4, 2)\na = net(torch.randn(5, 4))\n"
    "nn.functional.triplet_margin_loss(a, a.detach(), a.detach() + 9).backward()",
    "LoRA starts at zero": "x = torch.randn(5, 8)\nw = torch.randn(8, 8)\na = torch.randn(8, 2, requires_grad=True)\n"
    "b = torch.zeros(2, 8, requires_grad=True)\n((x @ w + x @ a @ b) ** 2).mean().backward()",
    "a state that starts at zero": "cell = nn.RNNCell(2, 3)\ncell(torch.randn(1, 2), torch.zeros(1, 3)).sum().backward()",
    "a loss that is zero": "x = torch.tensor([1., 2.], requires_grad=True)\nnn.functional.mse_loss(x, x.detach()).backward()",
    "zero in one pass of two": "x = torch.tensor(1., requires_grad=True)\nfor s in (-1., 1.):\n    x.grad = None\n"
    "    ((x * s).relu() + 1).backward()",
    "GAN": "g, d = nn.Linear(2, 2), nn.Linear(2, 1)\n"
    "og, od = torch.optim.SGD(g.parameters(), 0.1), torch.optim.SGD(d.parameters(), 0.1)\n"
    "for _ in range(3):\n    fake = g(torch.randn(4, 2))\n"
    "    od.zero_grad()\n    (d(fake.detach()).mean() - d(torch.randn(4, 2)).mean()).backward()\n    od.step()\n"
    "    og.zero_grad()\n    (-d(fake).mean()).backward()\n    og.step()",
    "a target network": "q, target = nn.Linear(2, 2), nn.Linear(2, 2)\nopt = torch.optim.Adam(q.parameters())\n"
    "for _ in range(3):\n    s = torch.randn(4, 2)\n    with torch.no_grad():\n        y = target(s).max(1).values\n"
    "    loss = ((q(s).max(1).values - y) ** 2).mean()\n    opt.zero_grad()\n    loss.backward()\n    opt.step()",
    "a straight-through estimator": "x = torch.tensor([0.4, 1.6], requires_grad=True)\n"
    "((x + (x.round() - x).detach()) ** 2).sum().backward()",
    "a frozen part": "net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))\nnet[0].requires_grad_(False)\n"
    "opt = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)\nnet(torch.randn(3, 2)).sum().backward()\nopt.step()",
    "logging": "net = nn.Linear(2, 1)\nopt = torch.optim.SGD(net.parameters(), 0.1)\nlosses = []\nfor _ in range(3):\n"
    "    loss = net(torch.randn(3, 2)).pow(2).mean()\n    opt.zero_grad()\n    loss.backward()\n    opt.step()\n"
    "    losses.append(loss.item())\n    total = loss.detach() * 2\n    acc = (net(torch.randn(3, 2)) > 0).float().mean()",
    "evaluation": "net = nn.Linear(2, 1)\nopt = torch.optim.SGD(net.parameters(), 0.1)\nfor _ in range(2):\n"
    "    opt.zero_grad()\n    net(torch.randn(3, 2)).sum().backward()\n    opt.step()\n"
    "    with torch.no_grad():\n        net(torch.randn(3, 2)).mean()",
    "a gradient for one input only": "x, w = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)\n"
    "torch.autograd.grad((x * w).sum(), x)",
    "relu that lets some through": "net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))\n"
    "net(torch.randn(5, 4)).mean().backward()",
}


@pytest.mark.parametrize("name", HEALTHY)
def test_what_has_no_gradient_on_purpose_is_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()
