"""Between the passes that are kept nothing watches the forward; and a kept pass is what it is without that rest."""

from __future__ import annotations

import threading

import pytest
import torch
from msgspec.structs import replace
from torch import nn
from torch.nn.modules import module as global_hooks

from gradtrace.recording.recorder import Options, Recorder

STEPS = 50


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 40), nn.Linear(40, 1)

    def forward(self, x):
        return self.second(Doubled.apply(self.first(x).tanh()))


def train(*, zero_each=1, modules=True, seen=None, inside=None):
    """Train a net, zeroing its gradients every ``zero_each`` steps; ``seen`` is told how it looks in each step."""
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(STEPS):
        if step % zero_each == 0:
            optimizer.zero_grad()
        x = torch.randn(8, 5)
        y = net(x) if modules else nn.functional.linear(x, net.first.weight).tanh()
        loss = y.square().mean() if inside is None else inside(y)
        if seen is not None:
            seen.append(is_watched())
        loss.backward()
        optimizer.step()


def is_watched():
    hooks = len(global_hooks._global_forward_hooks) + len(global_hooks._global_forward_pre_hooks)
    apply = getattr(torch.autograd.Function.__dict__["apply"], "__func__", None)  # which is C's own in newer versions
    return bool(torch._C._len_torch_function_stack()), bool(hooks), "gradtrace" in getattr(apply, "__module__", "")


def recorded(keep, **how):
    with Recorder(Options(keep=keep, facts=True)) as recorder:
        train(**how)
    assert is_watched() == (False, False, False)
    return recorder.trace


def without_times(graph):
    nodes = tuple(replace(node, seconds=None) for node in graph.nodes)
    return replace(graph, nodes=nodes, seconds=None, waiting=None)


AWAKE = [step == 0 or 24 <= step + 1 <= 40 for step in range(STEPS)]  # where pass 40 is kept


@pytest.mark.parametrize("modules", [True, False])
def test_nothing_watches_the_forward_far_from_a_kept_pass(modules):
    seen = []
    recorded(frozenset({40}), seen=seen, modules=modules)
    assert [all(watched) for watched in seen] == AWAKE
    assert [any(watched) for watched in seen] == AWAKE


@pytest.mark.parametrize("keep", [None, frozenset()])
def test_where_each_pass_may_be_asked_for_there_is_no_rest(keep):
    seen = []
    recorded(keep, seen=seen)
    assert all(map(all, seen))


@pytest.mark.parametrize("zero_each", [1, 4, 20, STEPS])
def test_a_pass_is_kept_as_if_all_were_watched(zero_each):
    rested = recorded(frozenset({1, 40}), zero_each=zero_each)
    whole = recorded(None, zero_each=zero_each)
    assert [graph.index for graph in rested.passes] == [1, 40]
    for graph in rested.passes:
        assert without_times(graph) == without_times(whole.passes[graph.index - 1])
        assert all(node.source for node in graph.nodes if node.kind == "function")
    assert rested.facts == whole.facts
    assert [(row.name, row.passes, row.reached) for row in rested.series] == [
        (row.name, row.passes, row.reached) for row in whole.series
    ]
    for ours, theirs in zip(rested.series, whole.series, strict=True):
        assert ours.norms == pytest.approx(theirs.norms, rel=1e-5)


def test_a_parameter_that_only_a_later_pass_reaches_is_not_called_unreached():
    late = nn.Linear(1, 1)

    def inside(y):
        calls.append(0)
        return (late(y) if len(calls) > 30 else y).square().mean()

    calls = []
    with Recorder(Options(keep=frozenset({1}), facts=True)) as recorder:
        torch.optim.SGD(late.parameters(), 0.1).step()
        train(inside=inside)
    assert [fact.kind for fact in recorder.trace.facts] == ["optimizer"]


def test_there_is_no_rest_where_several_threads_make_graphs():
    def other():
        Net()(torch.randn(8, 5)).sum().backward()

    seen = []
    with Recorder(Options(keep=frozenset({1}))):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        train(seen=seen)
    assert all(map(all, seen))


def test_a_thread_that_begins_during_the_rest_does_not_end_it_for_the_other():
    def other():
        w = torch.ones(3, requires_grad=True)
        for _ in range(3):
            (w * 2).sum().backward()

    seen = []
    with Recorder(Options(keep=frozenset({48, 51}))) as recorder:
        net = Net()
        for step in range(48):
            if step == 28:
                thread = threading.Thread(target=other)  # passes 29 to 31, before which the rest would end
                thread.start()
                thread.join()
            y = net(torch.randn(8, 5)).sum()
            seen.append(is_watched())
            y.backward()
    assert not any(map(any, seen[1:29]))
    assert all(map(all, seen[33:]))
    assert all(node.source for graph in recorder.trace.passes for node in graph.nodes if node.kind == "function")


def test_a_backward_inside_a_module_rests_when_that_has_ended():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x):
            for _ in range(3):
                self.net(x).sum().backward()
                seen.append(is_watched())

    seen, outer = [], Outer()
    with Recorder(Options(keep=frozenset({1}))):
        for _ in range(2):
            outer(torch.randn(8, 5))
        seen.append(is_watched())
    assert all(map(all, seen[:3]))
    assert not any(map(any, seen[3:]))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own reading
def test_a_compiled_function_is_compiled_once_whether_there_is_rest_or_not():
    frames = []

    def backend(module, _):
        frames.append(module)
        return module.forward

    compiled = torch.compile(lambda y: y.square().mean(), backend=backend)
    trace = recorded(frozenset({40}), inside=compiled)
    assert len(frames) == 1
    assert len(trace.passes) == 1
