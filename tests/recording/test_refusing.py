"""Tensors of a class of their own see what the script does with them, and not one attribute more."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.checkpoint import checkpoint

import gradtrace
from gradtrace.recording.recorder import Options, Recorder
from gradtrace.recording.replay.taped_recorder import TapedRecorder

SEEN: list[str] = []
EXPECTED: list[str] | None = None


def told(func):
    return f"{getattr(func, '__name__', func)} {getattr(getattr(func, '__self__', None), '__name__', '')}"


class Refusing(torch.Tensor):
    """Raises at whatever the script did not do when it ran without us."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        SEEN.append(told(func))
        if EXPECTED is not None and EXPECTED[len(SEEN) - 1 : len(SEEN)] != SEEN[-1:]:
            raise RuntimeError(f"the script does not call {told(func)}, call {len(SEEN)}")
        return super().__torch_function__(func, types, args, kwargs or {})


def refusing(*shape):
    return torch.linspace(0.1, 1, torch.Size(shape).numel()).reshape(shape).as_subclass(Refusing).requires_grad_()


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def operators():
    x = refusing(6)
    y = (x * 2).add_(1).view(2, 3)
    z = torch.cat([y, y.sin()]).split(2)[0]
    (z.sum() + x.detach().sum()).backward()
    x.sum().backward()
    x.sum().backward()
    return x.grad


def second_order():
    x = refusing(30)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (first * x).sum().backward(retain_graph=True)
    x.sum().backward()
    first.sum().backward(inputs=[x])


def modules():
    layer = nn.Linear(3, 2)
    layer.weight = nn.Parameter(refusing(2, 3).detach())
    optimizer = torch.optim.SGD([layer.weight, layer.bias], 0.1, foreach=False)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(torch.ones(4, 3)), torch.zeros(4, 2)).backward()
        optimizer.step()


def inside_others():
    x = refusing(4)
    Twice.apply(x).sum().backward()
    checkpoint(lambda y: y.tanh() * 2, x, use_reentrant=False).sum().backward()
    checkpoint(lambda y: y.tanh() * 2, x, use_reentrant=True).sum().backward()
    with torch.no_grad():
        x.mul_(2)


def failing():
    x = refusing(3)
    loss = x.exp().sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    with pytest.raises(RuntimeError, match="scalar"):
        (x * 2).backward()
    y = x.exp()
    y.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def not_finite():
    x = refusing(3)
    (x - x.detach()).sqrt().sum().backward()
    torch.where(x > 2, x, x.detach().log() * torch.inf).sum().backward()
    (x[:, None] - x).abs().sum().backward()


PROGRAMS = [operators, second_order, modules, inside_others, failing, not_finite]
RECORDERS = {
    "all": lambda: Recorder(Options(facts=True)),
    "the last": lambda: Recorder(Options(facts=True, keep=frozenset())),
    "the third": lambda: Recorder(Options(facts=True, keep=frozenset({3}))),
    "the calls": lambda: TapedRecorder(Options(facts=True, calls=True)),
    "torchviz": lambda: Recorder(Options(facts=True, torchviz=True)),
    "numbers": lambda: TapedRecorder(Options(facts=True, calls=True, numeric=True)),
}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("make", RECORDERS.values(), ids=RECORDERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_class_that_refuses_all_that_the_script_does_not_call_sees_no_more(program, make, monkeypatch):
    SEEN.clear()
    torch.manual_seed(0)
    program()
    expected = SEEN[:]
    SEEN.clear()
    monkeypatch.setitem(globals(), "EXPECTED", expected)
    torch.manual_seed(0)
    with make() as recorder:
        program()
    assert recorder.trace.passes
    assert expected == SEEN


def test_a_tensor_that_refuses_is_seeded_and_drawn_unasked(monkeypatch):
    x = refusing(3)
    y = x * 2
    SEEN.clear()
    monkeypatch.setitem(globals(), "EXPECTED", [])
    assert "MulBackward0" in gradtrace.make_dot(y, params={"x": x}).source
    assert SEEN == []


@pytest.mark.parametrize("native", [True, False])
def test_gradients_of_each_sample_are_those_without_us(native):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    found = []
    for watched in (False, True):
        with Recorder(Options(facts=True)) if watched else torch.enable_grad():
            call_for_per_sample_grads(net)(torch.ones(4, 3)).sum().backward()
        found.append([parameter.grad_sample.clone() for parameter in net.parameters()])
        for parameter in net.parameters():
            parameter.grad_sample = None
    assert all(map(torch.equal, *found))
