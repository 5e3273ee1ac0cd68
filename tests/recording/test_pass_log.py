"""What is recorded of each pass beside its gradients, held against what the script itself reads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradtrace.history import columns, pass_rows
from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.recorder import Options, Recorder

LAST = frozenset()
NONE = frozenset({10**9})


def train(steps=12, *, every=1, broken=()):
    """Train a net; return what the script reads in each pass: loss, step, learning rate."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    seen, made = [], 0
    for step in range(steps):
        loss = model(torch.randn(8, 4)).square().mean() * (math.inf if step in broken else 1)
        seen.append((loss.item(), made, schedule.get_last_lr()[0]))
        loss.backward()
        if step % every == every - 1:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            made += 1
    return seen


@pytest.mark.parametrize("keep", [None, LAST, NONE], ids=["all kept", "last", "none"])
@pytest.mark.parametrize("every", [1, 3])
def test_each_pass_has_the_loss_step_and_learning_rate_that_the_script_sees(keep, every):
    with Recorder(Options(keep=keep)) as recorder:
        seen = train(every=every)
    found = pass_rows(recorder.trace)
    for row, expected in zip(found.values(), seen, strict=True):
        assert (row.loss, row.step, row.learning_rate) == pytest.approx(expected)
    assert list(found) == list(range(1, 13))
    seconds = [row.seconds for row in found.values()]
    assert seconds == sorted(seconds)


def test_a_loss_that_is_not_finite_is_told_apart_from_one_that_is_not_known():
    with Recorder() as recorder:
        train(4, broken={2})
        torch.ones(2, requires_grad=True).backward(torch.ones(2))
    rows = recorder.trace.pass_series[0]
    assert rows.not_finite == [3, 4]  # the weights are NaN from then on
    assert [loss is None for loss in rows.losses] == [False, False, True, True, True]
    losses = [row.loss for row in pass_rows(recorder.trace).values()]
    assert math.isnan(losses[2])
    assert losses[4] is None


def test_the_true_norm_is_what_the_gradient_is_without_the_scale():
    model = nn.Linear(3, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x = torch.ones(2, 3)
    with Recorder() as recorder:
        scaler.scale(model(x).sum()).backward()
    table = columns(recorder.trace)
    assert table["scale"] == [1024.0, 1024.0]
    true = {leaf: norm for leaf, norm in zip(table["leaf"], table["true_norm"], strict=True)}  # noqa: C416
    model.zero_grad()
    model(x).sum().backward()
    assert true == pytest.approx({"model.weight": model.weight.grad.norm().item(), "model.bias": 2.0})


@pytest.mark.parametrize("facts", [False, True])
def test_the_scale_is_told_of_the_passes_that_have_one(facts):
    model = nn.Linear(3, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with Recorder(Options(facts=facts)) as recorder:
        for _ in range(2):
            scaler.scale(model(torch.ones(2, 3)).sum()).backward()
        model(torch.ones(2, 3)).sum().backward()
    assert recorder.trace.pass_series[0].scales == [8.0, 8.0, None]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_updates_are_what_the_steps_changed(optimizer):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    steps = optimizer(model.parameters(), 0.1)
    seen = []
    with Recorder(Options(keep=LAST, weights=2)) as recorder:
        for step in range(5):
            steps.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            before = model.weight.detach().clone()
            steps.step()
            if step % 2 == 0:
                seen.append((step, before.norm().item(), (model.weight.detach() - before).norm().item()))
    found = {series.name: series for series in recorder.trace.updates}
    assert found.keys() == {"model.weight", "model.bias"}
    series = found["model.weight"]
    assert list(zip(series.steps, series.weights, series.updates, strict=True)) == [pytest.approx(row) for row in seen]


def test_recording_updates_changes_no_weight():
    def weights(recorded):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), 0.1)

        def run():
            for _ in range(4):
                optimizer.zero_grad()
                model(torch.ones(1, 3)).sum().backward()
                optimizer.step()

        if recorded:
            with Recorder(Options(weights=1)):
                run()
        else:
            run()
        return [parameter.detach().clone() for parameter in model.parameters()]

    assert all(
        torch.equal(one, other) for one, other in zip(weights(recorded=True), weights(recorded=False), strict=True)
    )


def test_no_hook_of_an_optimizer_is_left():
    from torch.optim import optimizer  # noqa: PLC0415

    with Recorder(Options(weights=1)):
        pass
    assert not optimizer._global_optimizer_pre_hooks
    assert not optimizer._global_optimizer_post_hooks
    assert torch.amp.GradScaler.scale.__module__.startswith("torch.")


def test_no_two_patches_of_a_recorder_stand_in_the_same_place(monkeypatch):
    """Each would call the original, so that the later one hides the earlier."""
    places, install = [], Patch.install

    def noted(patch):
        places.append((patch._owner, patch._name))
        install(patch)

    monkeypatch.setattr(Patch, "install", noted)
    with Recorder(Options(facts=True, weights=1)):
        pass
    assert len(places) > 10
    assert len(places) == len(set(places))
