"""What is read from ``.grad`` when a pass has ended is what hooks would have seen arrive; else there are hooks."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from gradtrace.recording.backward import run_pass
from gradtrace.recording.recorder import Options, Recorder

NONE = frozenset({10**9})  # keep no pass


def train(change=None, steps=12, *, zero=True):
    """Train a small net; ``change`` may add hooks and more before step 5, and gives the loss from there on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss_of = None
    for step in range(steps):
        if zero:
            optimizer.zero_grad()
        if step == 5 and change is not None:
            loss_of = change(model, optimizer)
        x = torch.randn(8, 5)
        loss = model(x).square().mean() if loss_of is None else loss_of(x)
        loss.backward()
        optimizer.step()


def in_backward(model, _):
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))


def halved(model, _):
    model[0].weight.register_hook(lambda grad: grad / 2)


def checkpointed(model, _):
    return lambda x: checkpoint(model, x.requires_grad_(), use_reentrant=True).square().mean()


def frozen(model, _):
    model[2].bias.requires_grad_(False)


def another_leaf(model, _):
    extra = torch.full((3,), 2.0, requires_grad=True)
    return lambda x: model(x).square().mean() + extra.square().sum()


def replaced(model, optimizer):
    model[2] = nn.Linear(40, 1)
    optimizer.add_param_group({"params": list(model[2].parameters())})


def accumulating(_, optimizer):
    optimizer.zero_grad = lambda: None


def in_parts(model, _):
    def loss_of(x):
        model(x).square().mean().backward(inputs=[model[0].weight])
        return model(-x).square().mean()

    return loss_of


def taken_by_the_node(model):
    weight = model[0].weight
    node = weight.view_as(weight).grad_fn.next_functions[0][0]

    def take(*_):
        weight.grad.zero_()

    node.register_hook(take)
    model.node = node  # or it would be forgotten with its hook


CHANGES = [None, in_backward, halved, checkpointed, frozen, another_leaf, replaced, accumulating, in_parts]


def series(keep, *args, **kwargs):
    with Recorder(Options(keep=keep)) as recorder:
        train(*args, **kwargs)
    return {(row.name, row.shape): (row.passes, row.norms, row.reached) for row in recorder.trace.series}


@pytest.fixture
def hooked(monkeypatch):
    """The index of each pass that was watched by hooks."""
    found, watched = [], run_pass._run
    note = lambda subject, done: (found.append(subject.context.pass_index), watched(subject, done))[1]  # noqa: E731
    monkeypatch.setattr(run_pass, "_run", note)
    return found


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__ if change else "plain")
def test_the_series_is_the_one_of_hooks(change):
    expected, found = series(None, change), series(NONE, change)
    assert found.keys() == expected.keys()
    for leaf, (indices, norms, reached) in expected.items():
        assert found[leaf][0] == indices
        assert found[leaf][2] == reached
        for index, ours, theirs in zip(indices, found[leaf][1], norms, strict=True):
            if ours is None and theirs is not None:  # nothing is said rather than a sum
                assert (change, index) == (checkpointed, 6), "where a nested pass was met first"
            else:
                assert theirs is ours or ours == pytest.approx(theirs, rel=1e-5)


def test_a_loop_needs_hooks_in_its_first_pass_alone(hooked):
    series(NONE)
    assert hooked == [1]


def test_gradients_that_are_added_up_need_hooks_each_time(hooked):
    series(NONE, zero=False)
    assert hooked == list(range(1, 13))


def test_gradients_that_are_taken_at_once_need_hooks_from_then_on(hooked):
    series(NONE, in_backward)
    assert hooked == [1, *range(6, 13)]


def test_a_node_that_takes_the_gradient_from_the_first_pass_on_is_never_trusted(hooked):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1))
    taken_by_the_node(model)
    seen = []
    with Recorder(Options(keep=NONE)) as recorder:
        for _ in range(4):
            model.zero_grad()
            handle = model[0].weight.register_hook(lambda grad: seen.append(grad.norm().item()))
            model(torch.randn(8, 5)).square().mean().backward()
            handle.remove()
    assert hooked == [1, 2, 3, 4]
    row = next(row for row in recorder.trace.series if row.shape == (4, 5))
    assert row.norms == pytest.approx(seen, rel=1e-5)


def test_passes_beside_each_other_are_told_apart_by_hooks(hooked):
    weight = torch.ones(100, requires_grad=True)
    inside, go_on = threading.Event(), threading.Event()

    def slow(grad):
        inside.set()
        go_on.wait(10)
        return grad

    def other():
        (weight * 3).sum().backward()

    with Recorder(Options(forward=False, keep=NONE)) as recorder:
        weight.sum().backward()
        weight.grad = None
        x = weight * 2
        x.register_hook(slow)
        first = threading.Thread(target=lambda: x.sum().backward())
        first.start()
        inside.wait(10)
        other()
        go_on.set()
        first.join()
        weight.grad = None
        other()
    row = recorder.trace.series[0]
    by_pass = dict(zip(row.passes, row.norms, strict=True))
    assert by_pass[1] == pytest.approx(10)
    assert by_pass[2] is None  # its .grad holds that of the other, too
    assert by_pass[3] == by_pass[4] == pytest.approx(30)
    assert row.reached == [True] * 4
    assert hooked == [1, 3, 4]
