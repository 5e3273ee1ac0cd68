"""Each fault in several shapes, in a module, a loop, a later pass, half precision, a custom Function: the right line.

And what nearly is one of them, and isn't.
"""

from __future__ import annotations

import pytest

from tests.checking import findings

MODULE = """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.t = nn.Linear(3, 3), nn.Linear(3, 1), nn.Parameter(torch.tensor(2.))
    def forward(self, x):
        {forward}
def train():
    net = M()
    opt = torch.optim.SGD([*net.a.parameters(), *net.b.parameters(){more}], 0.1)
    for _ in range(3):
        opt.zero_grad()
        net(torch.randn(4, 3)).pow(2).mean().backward()
        opt.step()
train()
"""


def _module(forward, more=""):
    return MODULE.format(forward=forward, more=more)


FUNCTION = """
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return {backward}
"""

# The check, its line, words of its message; the script.
FAULTS = {
    "origin: one of 4,096": (
        "nonfinite-origin", "torch.sqrt(x)", "x[37, 11] is 0 and a gradient of 1 arrived",
        "x = torch.rand(64, 64)\nx[37, 11] = 0\nx.requires_grad_()\ntorch.sqrt(x).sum().backward()",
    ),
    "origin: masked, in a module, in the second pass": (
        "nonfinite-origin", "torch.sqrt(self.w * x)", "`self.w * x`[7, 3] is 0 and a gradient of 0 arrived",
        "class M(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = nn.Parameter(torch.rand(50, 20) + 0.1)\n"
        "    def forward(self, x): return torch.where(x > 0, torch.sqrt(self.w * x), 0.)\n"
        "net = M()\nfor i in range(2):\n    x = torch.rand(50, 20)\n    x[7, 3] = 1. - i\n    net(x).sum().backward()",
    ),
    "origin: float16": (
        "nonfinite-origin", "torch.exp(x)", "x[17] is 12",
        "x = torch.full((40,), 2., dtype=torch.float16)\nx[17] = 12\nx.requires_grad_()\n"
        "torch.where(x < 11, torch.exp(x), torch.ones_like(x)).float().sum().backward()",
    ),
    "origin: a custom Function": (
        "nonfinite-origin", "F.apply(x)", "x[3, 4] is 0 and a gradient of 1 arrived",
        FUNCTION.format(backward="g / x") + "x = torch.rand(10, 10) + 0.1\nx[3, 4] = 0\nx.requires_grad_()\n"
        "F.apply(x).sum().backward()",
    ),
    "origin: a denominator": (
        "nonfinite-origin", "x / d", "the denominator is 0",
        "x, d = torch.rand(30, 30, requires_grad=True), torch.rand(30, 30) + 0.1\nd[5, 6] = 0\n"
        "torch.where(d == 0, 0., x / d).sum().backward()",
    ),
    "origin: the other factor": (
        "nonfinite-origin", "p * torch.log(p)", "p[123] is 0 and a gradient of 0 arrived: the other factor is -inf",
        "p = torch.rand(1000) + 0.01\np[123] = 0\np.requires_grad_()\n(p * torch.log(p)).nan_to_num().sum().backward()",
    ),
    "forward: one of 32": (
        "nonfinite-forward", "torch.log(y)", "y[2, 5] is -3",
        "y = torch.rand(4, 8) + 0.1\ny[2, 5] = -3\ny.requires_grad_()\ntorch.log(y).mean().backward()",
    ),
    "forward: float16 in a module": (
        "nonfinite-forward", "net(x).sum()", "`net(x)` is in",
        "net = nn.Linear(64, 4).half()\nx = torch.full((2, 64), 60000.).half()\nnet(x).sum().backward()",
    ),
    "forward: nothing selected": (
        "nonfinite-forward", "x[x > 9].mean()", "`x[x > 9]` is empty",
        "x = torch.randn(5, requires_grad=True)\nx[x > 9].mean().backward()",
    ),
    "forward: a custom Function": (
        "nonfinite-forward", "F.apply(x)", "turned finite inputs into infinity",
        FUNCTION.replace("x * 2", "x / 0").format(backward="g") + "x = torch.ones(30, requires_grad=True)\n"
        "F.apply(x).sum().backward()",
    ),
    "in place: out=": (
        "modified-in-place", "torch.add(z, 1, out=y.detach())", "add(out=...)",
        "y, z = torch.randn(3, requires_grad=True).exp(), torch.ones(3)\ntorch.add(z, 1, out=y.detach())\ny.sum().backward()",
    ),
    "in place: a custom Function in float16": (
        "modified-in-place", "y.zero_()", "FBackward `F.apply(y)`",
        FUNCTION.format(backward="g * x") + "y = torch.ones(3, dtype=torch.float16, requires_grad=True) * 1\n"
        "z = F.apply(y)\ny.zero_()\nz.sum().backward()",
    ),
    "in place: a buffer in a loop": (
        "modified-in-place", "buf[t]", "an assignment to `buf[t]`",
        "h, w, buf, out = torch.zeros(3), torch.ones(3, requires_grad=True), torch.zeros(4, 3), []\n"
        "for t in range(4):\n    h = torch.tanh(h + w)\n    buf[t] = h\n    out.append((buf[t] * w).sum())\nsum(out).backward()",
    ),
    "twice: a custom Function": (
        "backward-twice", "z.backward()", "the same graph was run before and freed by pass 1",
        FUNCTION.format(backward="g * x") + "z = F.apply(torch.randn(3, requires_grad=True)).sum()\n"
        "z.backward()\nz.backward()",
    ),
    "no graph: a gradient": (
        "no-grad-output", "torch.autograd.grad(x ** 3, x)", "create_graph=True was not asked for",
        "x = torch.tensor(2., requires_grad=True)\ng, = torch.autograd.grad(x ** 3, x)\ng.backward()",
    ),
    "detached: item": (
        "detached", "self.t.item()", "by .item() and went on",
        _module("return self.b(self.a(x)) / self.t.item()", ", net.t"),
    ),
    "detached: float": (
        "detached", "float(self.t)", "by float() and went on",
        _module("return self.b(self.a(x)) * float(self.t)", ", net.t"),
    ),
    "detached: tolist": (
        "detached", "self.a(x).tolist()", "by .tolist()", _module("return self.b(torch.tensor(self.a(x).tolist()))"),
    ),
    "detached: numpy": (
        "detached", "self.a(x).detach()", "was detached",
        _module("return self.b(torch.from_numpy(self.a(x).detach().numpy()))"),
    ),
    "detached: integers": (
        "detached", "self.a(x).long()", "made integer by .long()", _module("return self.b(self.a(x).long().float())"),
    ),
    "detached: a comparison": (
        "detached", "self.a(x) > 0", "no derivative", _module("return self.b((self.a(x) > 0).float())"),
    ),
    "detached: a new leaf": (
        "detached", "self.a(x).detach()", "net.a.weight, net.a.bias",
        _module("return self.b(self.a(x).detach().requires_grad_())"),
    ),
    "detached: a sample": (
        "detached", "torch.distributions.Normal(self.a(x), 1.).sample()", "under torch.no_grad()",
        _module("return self.b(torch.distributions.Normal(self.a(x), 1.).sample())"),
    ),
    "detached: a penalty of gradients without a graph": (
        "detached", "torch.autograd.grad(d(x).sum(), x)", "was added to the loss and trains nothing",
        "d, x = nn.Linear(2, 1), torch.randn(4, 2, requires_grad=True)\ng, = torch.autograd.grad(d(x).sum(), x)\n"
        "(d(x).mean() + (g.norm(dim=1) - 1).pow(2).mean()).backward()",
    ),
    "detached: a thread": (
        "detached", "a(x).detach()", "a.weight, a.bias",
        "import threading\ndef work():\n    a, b, x = nn.Linear(3, 3), nn.Linear(3, 1), torch.randn(2, 3)\n"
        "    opt = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1)\n"
        "    b(a(x).detach()).sum().backward()\n    opt.step()\nt = threading.Thread(target=work)\nt.start()\nt.join()",
    ),
    "detached: a variable": (
        "detached", "(w * 2).detach()", "from there to w,",
        "w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)\n((w * 2).detach() * v).sum().backward()",
    ),
    "unreached: a value that left torch": (
        "unreached-leaf", "self.a(x).mean().item()", "left torch as a plain number by .item(). No gradient comes back",
        _module("return self.b(x) + 0.1 * self.a(x).mean().item()"),
    ),
    "unreached: in a model that is gone": ("unreached-leaf", "", "net.a.weight, net.a.bias", _module("return self.b(x)")),
    "zero: from the third pass on": (
        "zero-gradient", "(w - 5 * (i > 1)).relu()", "In the 2 passes before it was not",
        "w, v = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))\nfor i in range(5):\n"
        "    ((w - 5 * (i > 1)).relu() + v).sum().backward()\n    w.grad = v.grad = None",
    ),
    "zero: a custom Function": (
        "zero-gradient", "F.apply(w)", "its own backward returned zeros",
        FUNCTION.format(backward="g * 0") + "w = nn.Parameter(torch.ones(40))\nF.apply(w).sum().backward()",
    ),
    "zero: never the larger one": (
        "zero-gradient", "torch.maximum(w, v)", "the other operand was the larger one",
        "w, v = nn.Parameter(torch.full((40,), -9.)), nn.Parameter(torch.ones(40))\ntorch.maximum(w, v).sum().backward()",
    ),
    "vanishing: 500 steps": (
        "vanishing", "cell(x, h)", "of the 500 steps get less than 1e-06",
        "cell, h, x = nn.RNNCell(4, 8), torch.zeros(2, 8), torch.randn(2, 4)\nfor _ in range(500):\n"
        "    h = cell(x, h)\nh.pow(2).mean().backward()",
    ),
    "vanishing: a module of 100 steps": (
        "vanishing", "rnn(torch.randn(2, 100, 4))", "per step",
        "rnn = nn.RNN(4, 8, batch_first=True)\nrnn(torch.randn(2, 100, 4))[0][:, -1].pow(2).mean().backward()",
    ),
    "vanishing: by layer": (
        "vanishing", "net(x)", "per layer (21 layers)",
        "net = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 1))\n"
        "x = torch.randn(8, 16)\nnet(x).pow(2).mean().backward()",
    ),
    "vanishing: a custom Function": (
        "vanishing", "F.apply(h)", "a factor of 0.1 per op",
        FUNCTION.format(backward="g * 0.1") + "h = torch.ones(20, requires_grad=True)\nfor _ in range(10):\n"
        "    h = F.apply(h)\nh.sum().backward()",
    ),
    "accumulated: four leaves": (
        "accumulated", "loss.backward()", "The same goes for",
        "net, x = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), torch.ones(3, 2)\nfor _ in range(3):\n"
        "    loss = net(x).pow(2).mean()\n    loss.backward()",
    ),
    "alias: a later backward": (
        "grad-alias", "first.norm()", "after pass 2 added to it",
        "x = torch.ones(3, requires_grad=True)\n(x * 2).sum().backward()\nfirst = x.grad\n(x * 3).sum().backward()\nfirst.norm()",
    ),
    "alias: compared with itself": (
        "grad-alias", "x.grad - first", "compares the gradient of x with itself",
        "x = torch.ones(3, requires_grad=True)\n(x * 2).sum().backward()\nfirst = x.grad\n(x * 3).sum().backward()\nx.grad - first",
    ),
    "alias: a history": (
        "grad-alias", "torch.stack(history)", "one tensor",
        "w, history = torch.ones(3, requires_grad=True), []\nfor i in range(4):\n    (w * i).sum().backward()\n"
        "    history.append(w.grad)\ntorch.stack(history)",
    ),
    "broadcast: cross entropy by hand": (
        "broadcast", "y * p.log()", "(8,) and (8, 1)",
        "p, y = nn.Linear(3, 1)(torch.randn(8, 3)).sigmoid(), torch.rand(8)\n(-(y * p.log())).mean().backward()",
    ),
    "broadcast: a batch of one": (
        "broadcast", "net(x) - y", "made (1, 5, 5) of them",
        "net, x, y = nn.Linear(3, 1), torch.randn(1, 5, 3), torch.randn(1, 5)\n(net(x) - y).pow(2).mean().backward()",
    ),
    "hook: of a module": (
        "hook-changed", "net(x)", "a hook of net.1 changed the gradient",
        "net, x = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), torch.randn(2, 4)\n"
        "net[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 0.5,))\nnet(x).sum().backward()",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # torch warns of float(x), too
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_on_its_line_in_each_of_its_shapes(name, tmp_path):
    check, line, words, code = FAULTS[name]
    found = [f for f in findings(code, tmp_path) if f.check == check]
    assert [f.source.text if f.source else "" for f in found][:1] == [line]
    assert words in found[0].message


NEARLY = {
    "a loss that is logged": _module(
        "y = self.b(self.a(x)) * self.t\n        y.mean().item(), y.tolist(), y.detach().numpy()\n        return y", ", net.t"
    ),
    "losses weighed by their size": _module("y = self.b(self.a(x))\n        return y / y.abs().mean().item()"),
    "split learning": (
        "a, b, x = nn.Linear(3, 3), nn.Linear(3, 1), torch.randn(2, 3)\nopt = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1)\n"
        "h = a(x)\ncut = h.detach().requires_grad_()\nb(cut).sum().backward()\nh.backward(cut.grad)\nopt.step()"
    ),
    "adversarial inputs": (
        "net, x = nn.Linear(4, 1), torch.randn(8, 4, requires_grad=True)\ng, = torch.autograd.grad(net(x).sum(), x)\n"
        "net(x + 0.1 * g.sign()).pow(2).mean().backward()"
    ),
    "a gradient taken anew in each pass": (
        "w = torch.ones(3, requires_grad=True)\nfor i in range(3):\n    (w * i).sum().backward()\n    g = w.grad\n"
        "    g * g, g.norm()\n    w.data -= g\n    w.grad.zero_()"
    ),
    "one name for the current gradient": (
        "w = torch.ones(3, requires_grad=True)\nw.sum().backward()\ng = w.grad\nfor i in range(3):\n"
        "    w.grad.zero_()\n    (w * i).sum().backward()\n    w.data -= g"
    ),
    "a history of copies": (
        "w, history = torch.ones(3, requires_grad=True), []\nfor i in range(3):\n    w.grad = None\n"
        "    (w * i).sum().backward()\n    history.append(w.grad)\ntorch.stack(history)"
    ),
    "pairs on purpose": (
        "a = torch.randn(5, requires_grad=True)\n(a[:, None] * a).sum().backward()\n"
        "(torch.arange(4.)[:, None] * torch.randn(4, requires_grad=True)).sum().backward()"
    ),
    "a recurrence with a loss at each step": (
        "cell, h, loss = nn.RNNCell(4, 8), torch.zeros(2, 8), 0\nfor _ in range(200):\n"
        "    h = cell(torch.randn(2, 4), h)\n    loss = loss + h.pow(2).mean()\nloss.backward()"
    ),
    "a deep residual net, a tiny loss": (
        "x = torch.randn(8, 16)\nfor _ in range(40):\n    x = x + 0.1 * nn.Linear(16, 16)(x).relu()\n(x.pow(2).mean() * 1e-9).backward()"
    ),
    "a leaf without use for two passes": (
        "w, v = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))\nfor i in range(6):\n"
        "    ((w - 5 * (i > 4)).relu() + v).sum().backward()\n    w.grad = v.grad = None"
    ),
    "a module's hook that looks": (
        "net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())\nnet[1].register_full_backward_hook(lambda m, gi, go: None)\n"
        "net(torch.randn(2, 4)).sum().backward()"
    ),
    "models that come and go": (
        "def fit():\n    net = nn.Linear(4, 1)\n    opt = torch.optim.Adam(net.parameters())\n"
        "    net(torch.randn(8, 4)).pow(2).mean().backward()\n    opt.step()\nfor _ in range(4):\n    fit()"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NEARLY)
def test_what_is_nearly_a_fault_is_none(name, tmp_path):
    assert findings(NEARLY[name], tmp_path) == ()


def test_an_error_that_the_script_survives_is_a_note(tmp_path):
    code = "y = torch.ones(2, requires_grad=True).exp()\ny.add_(1)\ntry:\n    y.sum().backward()\nexcept RuntimeError: pass"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.severity) == ("modified-in-place", "info")
    assert found.message.endswith("The script went on after this error")


def test_an_error_that_is_raised_on_as_another_is_an_error(tmp_path):
    code = (
        "y = torch.ones(2, requires_grad=True).exp()\ny.add_(1)\ntry:\n    y.sum().backward()\n"
        "except RuntimeError as error:\n    raise ValueError('training failed') from error"
    )
    (found,) = findings(code, tmp_path)
    assert (found.check, found.severity) == ("modified-in-place", "error")


def test_a_weight_that_a_broken_step_broke_is_part_of_the_same_story(tmp_path):
    code = "w = nn.Parameter(torch.tensor(1.))\nopt = torch.optim.SGD([w], 1e20)\nfor _ in range(4):\n"
    code += "    opt.zero_grad()\n    (w ** 4).backward()\n    opt.step()"
    (found,) = findings(code, tmp_path)
    assert (found.check, found.pass_index) == ("nonfinite-forward", 2)
    assert "float32 ends at 3.4028e+38" in found.message
