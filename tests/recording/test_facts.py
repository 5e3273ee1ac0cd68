"""Recording facts for the checks disturbs nothing and keeps nothing alive."""

from __future__ import annotations

import weakref

import torch
from torch import nn
from torch.optim import optimizer as optimizers

from gradtrace.recording.recorder import Options, Recorder


def train(steps=3):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(8, 1))
    opt = torch.optim.Adam(net.parameters())
    for _ in range(steps):
        x = torch.randn(6, 4)
        with torch.no_grad():
            target = net(x).detach()
        loss = (net(x) - target - 1).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    return [p.detach().clone() for p in net.parameters()], torch.get_rng_state()


def test_a_training_run_is_the_same_to_the_last_bit():
    plain, state = train()
    with Recorder(Options(facts=True)):
        watched, watched_state = train()
    assert all(map(torch.equal, plain, watched))
    assert torch.equal(state, watched_state)


def test_no_hook_is_left_behind():
    with Recorder(Options(facts=True)):
        train(1)
        assert optimizers._global_optimizer_pre_hooks
    assert not optimizers._global_optimizer_pre_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_no_tensor_is_kept_alive():
    with Recorder(Options(facts=True)):
        x = torch.randn(3, requires_grad=True)
        cut = x.detach()
        changed = torch.zeros(3).add_(1)
        y = (x * cut).sum()
        y.backward()
        taken = x.grad
        dying = [weakref.ref(tensor) for tensor in (x, cut, changed, y, taken)]
        del x, cut, changed, y, taken
        assert [reference() for reference in dying] == [None] * 5


def test_the_same_facts_are_found_whichever_passes_are_kept():
    kinds = []
    for keep in (None, frozenset(), frozenset({2})):
        with Recorder(Options(facts=True, keep=keep)) as recorder:
            net = nn.ModuleDict({"used": nn.Linear(2, 1), "spare": nn.Linear(2, 1)})
            opt = torch.optim.SGD(net.parameters(), 0.1)
            for _ in range(3):
                net["used"](torch.ones(1, 2)).sum().backward()
                opt.step()
        kinds.append([fact.kind for fact in recorder.trace.facts])
    assert kinds == [["optimizer", "unreached", "reused"]] * 3


def test_tensors_that_can_not_be_asked_do_not_end_the_script():
    with Recorder(Options(facts=True)) as recorder:
        with torch.inference_mode():
            torch.zeros(3).add_(1).mul_(2)
        torch.zeros(4).to_sparse().mul_(2)
        torch.func.vmap(torch.func.grad(lambda x: (x.sin() * x.detach()).sum()))(torch.randn(3, 2))
        torch.func.vmap(lambda x: x.clone().add_(1))(torch.randn(3, 2))
        x = torch.randn(3, requires_grad=True)
        with torch.inference_mode():
            _ = x * 2
        (x.to_sparse() * 2).sum().backward()
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged, requires_grad=True)
        (nested * 2).values().sum().backward()
        torch.autograd.backward(x * 2, torch.ones(3))
    assert recorder.count == 4  # torch.func.grad makes one, too
