"""Gradients that vanish, explode, underflow, or are changed by a hook; and those that only look so."""

from __future__ import annotations

import pytest

from tests.checking import findings

DEEP = "net = nn.Sequential(*[part for _ in range({n}) for part in (nn.Linear({w}, {w}), nn.{act}())])\n{prepare}\n"
RUN = "net({scale} * torch.randn(8, {w})).pow(2).mean().backward()"


def deep(n=20, w=16, act="Sigmoid", prepare="pass", scale=1):
    return DEEP.format(n=n, w=w, act=act, prepare=prepare) + RUN.format(w=w, scale=scale)


def test_twenty_sigmoids_vanish_and_the_parameter_at_the_end_is_named(tmp_path):
    (found,) = findings(deep(), tmp_path)
    assert (found.check, found.severity) == ("vanishing", "warning")
    assert "net.0.bias" in found.message
    assert found.thresholds == {"vanishing": 1e-6, "vanishing_layer": 0.1, "layers": 4}


def test_large_weights_explode(tmp_path):
    prepare = "[p.data.mul_(60) for p in net.parameters()]"
    (found,) = findings(deep(n=8, act="Identity", prepare=prepare), tmp_path)
    assert found.check == "exploding"


def test_an_unrolled_loop_that_vanishes_is_found(tmp_path):
    code = """
    x = torch.full((4,), 0.5, requires_grad=True)
    h = x
    for _ in range(40):
        h = 0.5 * torch.sin(h)
    h.sum().backward()
    """
    assert [f.check for f in findings(code, tmp_path)] == ["vanishing"]


HEALTHY = {
    "a deep ReLU net": deep(n=20, act="ReLU", prepare="[nn.init.kaiming_normal_(m.weight) for m in net[::2]]"),
    "a mean over a million elements": "w = torch.randn(1000, 1000, requires_grad=True)\nw.tanh().mean().backward()",
    "one deliberate scaling": "w = torch.randn(10, requires_grad=True)\n(w.tanh() * 1e-9).sin().exp().cos().sum().backward()",
    "a residual net": "layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(20)])\nh = torch.randn(4, 8)\n"
    "for layer in layers:\n    h = h + layer(h).sigmoid()\nh.pow(2).mean().backward()",
    "a transformer": "net = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3)\n"
    "net(torch.randn(2, 5, 16)).pow(2).mean().backward()",
    "an LSTM": "net = nn.LSTM(4, 8, 2)\nnet(torch.randn(20, 2, 4))[0].pow(2).mean().backward()",
    "a convolution with batch norm": "net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), "
    "nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10))\n"
    "nn.functional.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.randint(10, (8,))).backward()",
    "an embedding": "net = nn.Sequential(nn.Embedding(50, 8), nn.Dropout(), nn.Linear(8, 3))\n"
    "nn.functional.cross_entropy(net(torch.randint(50, (16,))), torch.randint(3, (16,))).backward()",
    "double precision, tiny": "x = torch.tensor(1e-30, dtype=torch.float64, requires_grad=True)\n(x * x).backward()",
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_net_has_no_finding(name, tmp_path):
    assert findings(HEALTHY[name], tmp_path) == ()


def half(scale, dtype="float16"):
    return f"""
    w = torch.randn(64, 64, dtype=torch.{dtype}, requires_grad=True)
    ((w @ torch.randn(64, 64, dtype=torch.{dtype})).float().mean() * {scale}).backward()
    """


def test_half_precision_gradients_that_underflow_are_found(tmp_path):
    (found,) = findings(half(1e-2), tmp_path)
    assert (found.check, found.severity) == ("underflow", "warning")
    assert "ToCopyBackward0" in found.message


@pytest.mark.parametrize("code", [half(1e4), half(1e-2, "bfloat16"), half(1e-2, "float32")])
def test_gradients_that_their_dtype_can_hold_are_no_finding(code, tmp_path):
    assert findings(code, tmp_path) == ()


def test_zeros_from_a_relu_in_half_precision_are_no_underflow(tmp_path):
    code = "x = torch.linspace(-1, 1, 100).half().requires_grad_()\n(x.relu() * 100).sum().backward()"
    assert findings(code, tmp_path) == ()


HOOKS = {
    "scaled": ("h.register_hook(lambda g: g * 0.5)", "2 before, 1 after"),
    "zeroed": ("h.register_hook(torch.zeros_like)", "2 before, 0 after"),
    "clamped": ("h.register_hook(lambda g: g.clamp(max=1.5))", "2 before, 1.5 after"),
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_changed_a_gradient_is_told_with_before_and_after(name, tmp_path):
    hook, said = HOOKS[name]
    code = f"x = torch.tensor(1., requires_grad=True)\nh = x * 3\n{hook}\n(h * 2).backward()"
    (found,) = [f for f in findings(code, tmp_path) if f.check == "hook-changed"]
    assert found.severity == "info"
    assert said in found.message


@pytest.mark.parametrize("shape", ["4", "100, 3"])
def test_a_hook_on_a_parameter_is_told(shape, tmp_path):
    code = f"w = torch.ones({shape}, requires_grad=True)\nw.register_hook(lambda g: g * 2)\n(w * 3).sum().backward()"
    (found,) = findings(code, tmp_path)
    assert (found.check, "leaf w" in found.message) == ("hook-changed", True)


NO_HOOKS = {
    "many edges in half precision": "x = torch.randn(500).bfloat16().requires_grad_()\nsum(x * i for i in range(9)).float().sin().sum().backward()",
    "a hook that only looks": "x = torch.randn(50, requires_grad=True)\nx.register_hook(lambda g: None)\n(x * 3).sum().backward()",
    "broadcasting": "x = torch.randn(5, 1, requires_grad=True)\n(x * torch.randn(5, 40)).sum().backward()",
    "a cast": "x = torch.randn(30, requires_grad=True)\nx.double().half().float().sin().sum().backward()",
    "fan-in": "x = torch.randn(64, requires_grad=True)\n(x * x + x.sin() - 3 * x).sum().backward()",
}


@pytest.mark.parametrize("name", NO_HOOKS)
def test_rounding_and_sums_are_no_hooks(name, tmp_path):
    assert [f for f in findings(NO_HOOKS[name], tmp_path) if f.check == "hook-changed"] == []
