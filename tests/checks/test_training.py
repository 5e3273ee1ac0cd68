"""Training loops that run and do not train as was meant, each beside healthy ones that look like it."""

from __future__ import annotations

import pytest

from tests.checking import findings

NET = "net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))\nx, y = torch.randn(16, 4), torch.randint(0, 2, (16,))\n"
SGD = "opt = torch.optim.SGD(net.parameters(), 0.1)\n"
LOSS = "nn.functional.cross_entropy(net(x), y)"


def loop(*lines, times=4):
    """A loop of these lines."""
    return f"for step in range({times}):\n" + "".join(f"    {line}\n" for line in lines)


FAULTS = {
    "a layer made in forward": (
        "trained-by-nobody", "without a name",
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(4, 4)\n"
        "    def forward(self, x):\n        return nn.Linear(4, 1)(self.a(x))\nnet, x = Net(), torch.randn(3, 4)\n" + SGD
        + loop("opt.zero_grad()", "net(x).pow(2).mean().backward()", "opt.step()"),
    ),
    "a parameter moved": (
        "trained-by-nobody", "of shape (4,)",
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(4, 4)\n"
        "        self.s = nn.Parameter(torch.ones(4)).to(torch.float64)\n    def forward(self, x):\n"
        "        return self.a(x) * self.s\nnet, x = Net(), torch.randn(3, 4)\n" + SGD
        + loop("opt.zero_grad()", "net(x).pow(2).mean().backward()", "opt.step()"),
    ),
    "sigmoid into BCE with logits": (
        "activation-twice", "at least 0.5",
        "net = nn.Linear(4, 1)\nx, y = torch.randn(8, 4), torch.rand(8, 1)\n"
        "nn.functional.binary_cross_entropy_with_logits(torch.sigmoid(net(x)), y).backward()",
    ),
    "log_softmax twice": (
        "activation-twice", "changes nothing",
        NET + "nn.functional.cross_entropy(net(x).log_softmax(1), y).backward()",
    ),
    "softmax in a sequence": (
        "activation-twice", "log_softmax of probabilities",
        "net = nn.Sequential(nn.Linear(4, 2), nn.Softmax(-1))\nx, y = torch.randn(2, 8, 4), torch.randint(0, 2, (16,))\n"
        "nn.functional.cross_entropy(net(x).view(-1, 2), y).backward()",
    ),
    "clipping what is scaled": (
        "clip-misplaced", "still scaled up",
        NET + SGD + "scaler = torch.amp.GradScaler('cpu')\n"
        + loop("opt.zero_grad()", f"scaler.scale({LOSS}).backward()", "nn.utils.clip_grad_value_(net.parameters(), 1.)",
               "scaler.step(opt)", "scaler.update()"),
    ),
    "zeroed before the step": (
        "step-without-effect", "zeroed between backward() and the step",
        NET + SGD + loop(f"{LOSS}.backward()", "opt.zero_grad()", "opt.step()"),
    ),
    "set to zero before the step": (
        "step-without-effect", "zeroed between backward() and the step",
        NET + SGD + loop(f"{LOSS}.backward()", "opt.zero_grad(set_to_none=False)", "opt.step()"),
    ),
    "no learning rate": (
        "step-without-effect", "a learning rate of 0",
        NET + "opt = torch.optim.Adam(net.parameters(), lr=0.)\n" + loop("opt.zero_grad()", f"{LOSS}.backward()", "opt.step()"),
    ),
    "losses in a list": (
        "graph-kept", "live on with their graphs",
        NET + SGD + "losses = []\n" + loop("opt.zero_grad()", f"loss = {LOSS}", "loss.backward()", "opt.step()",
                                         "losses.append(loss)", times=20),
    ),
    "total = total + loss": (
        "graph-kept", "no backward runs from it",
        NET + SGD + "total = torch.zeros(())\n" + loop("opt.zero_grad()", f"loss = {LOSS}", "loss.backward()", "opt.step()",
                                                     "total = total + loss", times=9),
    ),
    "a closure that zeroes nothing": (
        "accumulated", "the closure of the step at train.py:",
        NET + "opt = torch.optim.LBFGS(net.parameters(), max_iter=6)\ndef closure():\n"
        f"    loss = {LOSS}\n    loss.backward()\n    return loss\nopt.step(closure)",
    ),
    "after the last step": (
        "accumulated", "after the last step",
        NET + SGD + loop("opt.zero_grad()", f"{LOSS}.backward()", "opt.step()") + f"{LOSS}.backward()",
    ),
    "three layers that lose a factor of a thousand": (
        "vanishing", "per layer (4 layers)",
        "net = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 1))\n"
        "for m in net[::2]: nn.init.normal_(m.weight, 0, 0.05)\nnet(torch.randn(8, 16)).pow(2).mean().backward()",
    ),
    "a state that is never detached": (
        "graph-kept", "more of them each time",
        "cell, h = nn.RNNCell(3, 3), torch.zeros(1, 3)\n"
        + loop("h = cell(torch.randn(1, 3), h)", "cell.zero_grad()", "h.pow(2).sum().backward(retain_graph=True)", times=12),
    ),
    "a change through .data": (
        "changed-unseen", "changed it in place through .data",
        "w = torch.ones(3, requires_grad=True)\ny = w * 2\nz = (y ** 2).sum()\ny.data.mul_(10)\nz.backward()",
    ),
    "a weight changed through .data": (
        "changed-unseen", "changed it in place through .data",
        "net, x = nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)\nout = net(x).pow(2).sum()\n"
        "net.weight.data.clamp_(-0.01, 0.01)\nout.backward()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_loop_that_does_not_train_as_was_meant_is_told(name, tmp_path):
    check, words, code = FAULTS[name]
    found = [f for f in findings(code, tmp_path) if f.severity != "info" or check in {"graph-kept", "activation-twice"}]
    assert [f.check for f in found] == [check]
    assert words in found[0].message


GAN = (
    "g, d = nn.Linear(2, 2), nn.Linear(2, 1)\n"
    "og, od = torch.optim.SGD(g.parameters(), 0.1), torch.optim.SGD(d.parameters(), 0.1)\n"
)
HEALTHY = {
    "the other net of a GAN": GAN + loop(
        "od.zero_grad()", "(d(g(torch.randn(4, 2)).detach()).mean() - d(torch.randn(4, 2)).mean()).backward()", "od.step()",
        "og.zero_grad()", "(-d(g(torch.randn(4, 2))).mean()).backward()", "og.step()",
    ),
    "adversarial inputs": NET + SGD + loop(
        "adv = x.clone().requires_grad_()", "nn.functional.cross_entropy(net(adv), y).backward()",
        "adv = (adv + 0.1 * adv.grad.sign()).detach()", "opt.zero_grad()",
        "nn.functional.cross_entropy(net(adv), y).backward()", "opt.step()",
    ),
    "a fixed net for a perceptual loss": NET + SGD + "vgg = nn.Linear(2, 3)\n" + loop(
        "opt.zero_grad()", "vgg(net(x)).pow(2).mean().backward()", "opt.step()",
    ),
    "a parameter that the script moves itself": NET + SGD + "delta = nn.Parameter(torch.zeros(4))\n" + loop(
        "opt.zero_grad()", "nn.functional.cross_entropy(net(x + delta), y).backward()", "opt.step()",
        "delta.data -= 0.1 * delta.grad", "delta.grad = None",
    ),
    "without an optimizer": NET + loop(
        "net.zero_grad()", f"{LOSS}.backward()", "for p in net.parameters(): p.data -= 0.1 * p.grad",
    ),
    "distillation": NET + SGD + "teacher = nn.Linear(4, 2).requires_grad_(False)\n" + loop(
        "opt.zero_grad()", "t = teacher(x).softmax(1)",
        "nn.functional.kl_div(net(x).log_softmax(1), t, reduction='batchmean').backward()", "opt.step()",
    ),
    "soft targets of the model itself": NET + SGD + loop(
        "opt.zero_grad()", "nn.functional.cross_entropy(net(x), net(x).softmax(1)).backward()", "opt.step()",
    ),
    "attention before the classes": "q, c = nn.Linear(4, 4), nn.Linear(4, 3)\nx = torch.randn(2, 5, 4)\n"
    "a = (q(x) @ x.transpose(1, 2)).softmax(-1)\n"
    "nn.functional.cross_entropy(c((a @ x).mean(1)), torch.tensor([0, 1])).backward()",
    "a gate before BCE with logits": "a, b = nn.Linear(4, 4), nn.Linear(4, 1)\nx = torch.randn(3, 4)\n"
    "nn.functional.binary_cross_entropy_with_logits(b(x * a(x).sigmoid()), torch.ones(3, 1)).backward()",
    "unscale, clip, step": NET + SGD + "scaler = torch.amp.GradScaler('cpu')\n" + loop(
        "opt.zero_grad()", f"scaler.scale({LOSS}).backward()", "scaler.unscale_(opt)",
        "nn.utils.clip_grad_norm_(net.parameters(), 1.)", "scaler.step(opt)", "scaler.update()",
    ),
    "a scaler that is off": NET + SGD + "scaler = torch.amp.GradScaler('cpu', enabled=False)\n" + loop(
        "opt.zero_grad()", f"scaler.scale({LOSS}).backward()", "nn.utils.clip_grad_norm_(net.parameters(), 1.)",
        "scaler.step(opt)",
    ),
    "clipping once every two passes": NET + SGD + loop(
        f"({LOSS} / 2).backward()", "if step % 2: nn.utils.clip_grad_norm_(net.parameters(), 1.)",
        "if step % 2: opt.step()", "if step % 2: opt.zero_grad()", times=8,
    ),
    "warm-up from a rate of 0": NET + SGD + "sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: s / 4)\n" + loop(
        "opt.zero_grad()", f"{LOSS}.backward()", "opt.step()", "sched.step()", times=6,
    ),
    "bfloat16 that moves": "w = nn.Parameter(torch.randn(8).bfloat16())\nopt = torch.optim.SGD([w], 0.1)\n" + loop(
        "opt.zero_grad()", "(w.float() - 3).pow(2).sum().backward()", "opt.step()", times=8,
    ),
    "zeroed after the step": NET + SGD + loop(f"{LOSS}.backward()", "opt.step()", "opt.zero_grad()"),
    "two losses on one encoding": "e, a, b = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 1)\nx = torch.randn(3, 4)\n"
    "opt = torch.optim.SGD([*e.parameters(), *a.parameters(), *b.parameters()], 0.1)\n" + loop(
        "opt.zero_grad()", "z = e(x).tanh()", "a(z).mean().backward(retain_graph=True)", "b(z).mean().backward()",
        "opt.step()", times=12,
    ),
    "a second derivative in each step": "d, x = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(4, 2)\n"
    "opt = torch.optim.SGD(d.parameters(), 0.1)\n" + loop(
        "i = x.clone().requires_grad_()", "g, = torch.autograd.grad(d(i).sum(), i, create_graph=True)", "opt.zero_grad()",
        "g.pow(2).mean().backward()", "opt.step()", times=12,
    ),
    "a sum that backward runs from": NET + SGD + "total = 0\n" + loop(
        "g = torch.autograd.grad(net(x).sum(), net[0].weight, create_graph=True)[0]", "total = total + g.pow(2).mean()", times=9,
    ) + "total.backward()\nopt.step()",
    "numbers in a list": NET + SGD + "losses, total = [], 0.\n" + loop(
        "opt.zero_grad()", f"loss = {LOSS}", "loss.backward()", "opt.step()", "losses.append(loss.detach())",
        "total += loss.item()", times=20,
    ),
    "weights clipped through .data after the step": NET + SGD + loop(
        "opt.zero_grad()", f"{LOSS}.backward()", "opt.step()", "for p in net.parameters(): p.data.clamp_(-0.5, 0.5)",
    ),
    "a closure with micro-batches": NET + "opt = torch.optim.LBFGS(net.parameters(), max_iter=5)\ndef closure():\n"
    "    opt.zero_grad()\n    total = 0.\n    for i in (0, 8):\n        l = nn.functional.cross_entropy(net(x[i:i+8]), y[i:i+8]) / 2\n"
    "        l.backward()\n        total += l.item()\n    return torch.tensor(total)\nfor _ in range(2): opt.step(closure)",
    "a gradient taken anew after the last step": NET + SGD + loop("opt.zero_grad()", f"{LOSS}.backward()", "opt.step()")
    + f"opt.zero_grad()\n{LOSS}.backward()",
    "three sigmoid layers as PyTorch makes them":
    "net = nn.Sequential(*[m for _ in range(3) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 1))\n"
    "net(torch.randn(8, 16)).pow(2).mean().backward()",
    "eight tanh layers": "net = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(16, 16), nn.Tanh())], nn.Linear(16, 1))\n"
    "net(torch.randn(8, 16)).pow(2).mean().backward()",
    "an update by hand through .data": "w = torch.ones(3, requires_grad=True)\n" + loop(
        "w.grad = None", "(w ** 2).sum().backward()", "w.data.sub_(0.1 * w.grad)",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_loop_that_looks_like_it_is_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()


def test_a_backbone_that_is_not_in_the_optimizer_is_a_note(tmp_path):
    code = (
        NET
        + "opt = torch.optim.SGD(net[2].parameters(), 0.1)\n"
        + loop("opt.zero_grad()", f"{LOSS}.backward()", "opt.step()")
    )
    (found,) = findings(code, tmp_path)
    assert (found.check, found.severity) == ("trained-by-nobody", "info")
    assert "net.0.bias, net.0.weight" in found.message


def test_the_next_number_after_100_in_bfloat16_is_what_the_message_says():
    import torch  # noqa: PLC0415 - 1.5 s

    hundred = torch.tensor(100.0, dtype=torch.bfloat16)
    assert torch.nextafter(hundred, hundred * 2).item() == 100.5
