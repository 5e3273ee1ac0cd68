"""Code that runs and means something else; and the same code on purpose."""

from __future__ import annotations

import pytest

from tests.checking import findings

LOOP = """
net = nn.Linear(2, 1)
opt = torch.optim.{optimizer}(net.parameters(), 0.01)
for step in range({steps}):
    {before}
    net(torch.randn(3, 2)).pow(2).mean().backward()
    {after}
"""


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_step_on_a_gradient_that_was_used_before_is_one_finding_with_a_count(optimizer, tmp_path):
    code = LOOP.format(optimizer=optimizer, steps=5, before="pass", after="opt.step()")
    (found,) = findings(code, tmp_path)
    assert (found.check, found.source.text, found.pass_index, found.count) == ("accumulated", "opt.step()", 2, 4)
    assert "net.weight, net.bias" in found.message


def test_clipping_does_not_hide_that_nothing_was_zeroed(tmp_path):
    after = "nn.utils.clip_grad_norm_(net.parameters(), 0.001); opt.step()"
    (found,) = findings(LOOP.format(optimizer="SGD", steps=3, before="pass", after=after), tmp_path)
    assert found.check == "accumulated"


def test_four_passes_onto_one_leaf_are_told_as_a_sum(tmp_path):
    (found,) = findings(
        "x = torch.tensor(3., requires_grad=True)\nfor _ in range(4):\n    (x * x).backward()", tmp_path
    )
    assert "24 = 6 × 4 passes" in found.message
    assert found.pass_index == 2


def test_a_hand_written_descent_without_zeroing_is_found(tmp_path):
    code = """
    w = torch.tensor(3., requires_grad=True)
    for _ in range(3):
        (w * w).backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
    """
    assert [f.check for f in findings(code, tmp_path)] == ["accumulated"]


ON_PURPOSE = {
    "zeroed to None": LOOP.format(optimizer="SGD", steps=3, before="opt.zero_grad()", after="opt.step()"),
    "zeroed in place": LOOP.format(
        optimizer="SGD", steps=3, before="opt.zero_grad(set_to_none=False)", after="opt.step()"
    ),
    "zeroed after the step": LOOP.format(optimizer="SGD", steps=3, before="pass", after="opt.step(); net.zero_grad()"),
    "every second pass": LOOP.format(
        optimizer="Adam", steps=6, before="pass", after="if step % 2: opt.step(); opt.zero_grad()"
    ),
    "two losses before one step": "net = nn.Linear(2, 1)\nopt = torch.optim.SGD(net.parameters(), 0.1)\n"
    "for _ in range(3):\n    opt.zero_grad()\n    net(torch.randn(3, 2)).mean().backward()\n"
    "    net(torch.randn(3, 2)).pow(2).mean().backward()\n    opt.step()",
    "a sum over batches, to be looked at": "net = nn.Linear(2, 1)\nfor _ in range(3):\n"
    "    net(torch.randn(3, 2)).pow(2).mean().backward()",
    "a discriminator that its generator's loss goes through": "g, d = nn.Linear(2, 2), nn.Linear(2, 1)\n"
    "og, od = torch.optim.SGD(g.parameters(), 0.1), torch.optim.SGD(d.parameters(), 0.1)\nfor _ in range(3):\n"
    "    od.zero_grad()\n    d(g(torch.randn(4, 2)).detach()).mean().backward()\n    od.step()\n"
    "    og.zero_grad()\n    d(g(torch.randn(4, 2))).mean().backward()\n    og.step()",
    "descent by hand": "w = torch.tensor(3., requires_grad=True)\nfor _ in range(3):\n    (w * w).backward()\n"
    "    with torch.no_grad():\n        w -= 0.1 * w.grad\n    w.grad = None",
}


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_adding_up_on_purpose_is_no_finding(name, tmp_path):
    assert findings(ON_PURPOSE[name], tmp_path) == ()


PAIRS = {
    "difference": "loss = ((net(x) - y) ** 2).mean()",
    "the other way round": "loss = (y - net(x)).abs().mean()",
    "in a function": "def mse(a, b):\n    return (a - b).pow(2).mean()\nloss = mse(net(x), y)",
    "half precision": "loss = ((net(x).bfloat16() - y.bfloat16()) ** 2).float().mean()",
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_loss_of_all_pairs_is_told_with_its_shapes(name, tmp_path):
    code = f"net, x, y = nn.Linear(4, 1), torch.randn(8, 4), torch.randn(8)\n{PAIRS[name]}\nloss.backward()"
    (found,) = findings(code, tmp_path)
    assert found.check == "broadcast"
    assert "(8, 1)" in found.message
    assert "(8,)" in found.message
    assert "8 × 8" in found.message


NO_PAIRS = {
    "the same shapes": "((net(x).squeeze(-1) - y) ** 2).mean().backward()",
    "pairs on purpose": "z = net(x).squeeze(-1)\n((z.unsqueeze(1) - z) ** 2).mean().backward()",
    "pairs by an index": "z = net(x)[:, 0]\n((z[:, None] - y) ** 2).mean().backward()",
    "one row": "((net(x[:1]) - y[:1]) ** 2).mean().backward()",
    "a bias": "(net(x) - torch.ones(1)).mean().backward()",
    "a mean over features": "w = torch.randn(8, 4, requires_grad=True)\n(w - w.mean(1, keepdim=True)).pow(2).mean().backward()",
}


@pytest.mark.parametrize("name", NO_PAIRS)
def test_broadcasting_as_it_is_meant_is_no_finding(name, tmp_path):
    code = f"net, x, y = nn.Linear(4, 1), torch.randn(8, 4), torch.randn(8)\n{NO_PAIRS[name]}"
    assert [f for f in findings(code, tmp_path) if f.check == "broadcast"] == []


SQUARE = """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    {once}
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        return 2 * {x} * grad
x = torch.tensor(3., requires_grad=True)
g, = torch.autograd.grad(Square.apply(x), x, create_graph={create})
"""
ONCE = "@torch.autograd.function.once_differentiable"


@pytest.mark.parametrize(("once", "x"), [(ONCE, "x"), ("", "x.detach()"), ("", "x.data")])
def test_a_function_that_loses_the_second_derivative_is_blamed(once, x, tmp_path):
    (found,) = findings(SQUARE.format(once=once, x=x, create=True), tmp_path)
    assert found.check == "lost-second-order"
    assert "SquareBackward `Square.apply(x)`" in found.message
    assert ("once_differentiable:" in found.message or "marked once_differentiable" in found.message) == bool(once)


@pytest.mark.parametrize(("once", "x", "create"), [("", "x", True), (ONCE, "x", False)])
def test_a_function_that_can_be_differentiated_twice_or_need_not_is_no_finding(once, x, create, tmp_path):
    assert findings(SQUARE.format(once=once, x=x, create=create), tmp_path) == ()


ALIASES = {
    "read after zero_": ("first = x.grad\nx.grad.zero_()\nprint(first.item())", "first.item()"),
    "printed after zero_": ("first = x.grad\nx.grad.zero_()\nprint(first)", "print(first)"),
    "kept in a list": ("kept = []\nkept.append(x.grad)\nx.grad.zero_()\nkept[0] + 1", "kept[0] + 1"),
    "in a function": (
        "def reset():\n    x.grad.zero_()\ng = x.grad\nreset()\ntotal = g * 2", "g * 2",
    ),
    "zeroed by the optimizer": (
        "opt = torch.optim.SGD([x], 0.1)\ng = x.grad\nopt.zero_grad(set_to_none=False)\nh = g.norm()", "g.norm()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_a_second_name_for_a_zeroed_gradient_is_found_where_it_is_read(name, tmp_path, capsys):
    code, line = ALIASES[name]
    found = findings(f"x = torch.tensor(3., requires_grad=True)\n(x * x).backward()\n{code}", tmp_path)
    assert [(f.check, f.source.text) for f in found] == [("grad-alias", line)]
    assert "gradient of x by a second name" in found[0].message
    capsys.readouterr()


NO_ALIASES = {
    "a copy": "first = x.grad.clone()\nx.grad.zero_()\nfirst.item()",
    "None in place of zeros": "first = x.grad\nx.grad = None\nfirst.item()",
    "read before": "first = x.grad\nfirst.item()\nx.grad.zero_()",
    "always by its own name": "if x.grad is not None:\n    x.grad.zero_()\nx.grad.item()\nx.grad.norm().item()",
    "zeroed by the name itself": "g = x.grad\ng.zero_()\ng.item()",
    "gradients cached for every step": "g = x.grad\nfor _ in range(2):\n    x.grad.zero_()\n    (x * 3).backward()\n    g.norm().item()",
}


@pytest.mark.parametrize("name", NO_ALIASES)
def test_a_gradient_that_is_read_as_it_should_be_is_no_finding(name, tmp_path):
    code = f"x = torch.tensor(3., requires_grad=True)\n(x * x).backward()\n{NO_ALIASES[name]}"
    assert [f for f in findings(code, tmp_path) if f.check == "grad-alias"] == []
