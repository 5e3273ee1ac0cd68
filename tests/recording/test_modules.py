"""Modules: the path of the call that made each node, calls told apart, whatever the modules do."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

import gradtrace


def paths(work):
    with gradtrace.record() as recording:
        work()
    (graph,) = recording.trace.passes
    return graph, [(node.op, node.module) for node in graph.nodes if node.kind == "function"]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(2, 2)

    def forward(self, x):
        return self.proj(x).sigmoid() * x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.ModuleList([Attention(), Attention()])

    def forward(self, x):
        for block in self.h:
            x = block(x)
        return x.tanh()


def test_each_node_belongs_to_the_innermost_module_that_made_it():
    net = Net()
    _, found = paths(lambda: net(torch.ones(1, 2)).sum().backward())
    assert Counter(found) >= Counter(
        [("SumBackward0", ""), ("TanhBackward0", "net")]
        + [(op, f"net.h.{i}{inner}") for i in (0, 1) for op, inner in
           [("SigmoidBackward0", ".attn"[:0]), ("MulBackward0", ""), ("AddmmBackward0", ".proj")]]
    )  # fmt: skip


def test_two_calls_of_one_module_are_told_apart_and_know_the_call_around_them():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    graph, _ = paths(lambda: model(torch.ones(1, 2)).sum().backward())
    made = [node for node in graph.nodes if node.op == "AddmmBackward0"]
    assert [node.module for node in made] == ["model.0", "model.0"]
    assert len({node.call for node in made}) == 2
    for node in made:
        call = graph.calls[node.call]
        assert (call.path, call.type) == ("model.0", "Linear")
        assert (graph.calls[call.parent].path, graph.calls[call.parent].type) == ("model", "Sequential")


def test_a_module_that_raises_leaves_no_trace_on_later_nodes():
    class Failing(nn.Module):
        def forward(self, x):
            raise KeyError

    failing, after = nn.Sequential(nn.Identity(), Failing()), torch.ones(2, requires_grad=True)

    def work():
        with pytest.raises(KeyError):
            failing(after)
        after.sin().sum().backward()

    _, found = paths(work)
    assert found == [("SumBackward0", ""), ("SinBackward0", "")]


def test_a_module_without_a_name_is_called_by_its_class():
    _, found = paths(lambda: Attention()(torch.ones(1, 2)).sum().backward())
    assert ("AddmmBackward0", "Attention.proj") in found


def test_a_model_that_was_copied_pickled_or_scripted_is_recorded():
    import copy  # noqa: PLC0415

    net = copy.deepcopy(Net())
    _, found = paths(lambda: net(torch.ones(1, 2)).sum().backward())
    assert ("TanhBackward0", "net") in found
