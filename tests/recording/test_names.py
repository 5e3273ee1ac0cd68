"""Names: of variables, items, attributes, and of parameters by their path from the outermost module."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import gradtrace
from gradtrace.recording.recorder import Recorder
from gradtrace.recording.user_code.variable_names import ModulePaths


def leaf_names(work):
    with gradtrace.record() as recording:
        work()
    return sorted(node.name for node in recording.trace.passes[-1].nodes if node.kind == "leaf")


def new(*shape):
    return torch.rand(shape, requires_grad=True)


def test_leaves_are_named_by_variables_items_and_attributes():
    u, params, layers, pair = new(), {"w1": new(), 2: new()}, [SimpleNamespace(weight=new()), new()], (new(), [new()])
    holder = SimpleNamespace(inner=SimpleNamespace(tensor=new()))

    class Config:
        def __init__(self):
            self.scale = new()

    config = Config()

    def work():
        found = u + params["w1"] + params[2] + layers[1] + pair[0] + pair[1][0] + config.scale
        (found + layers[0].weight + holder.inner.tensor).backward()

    assert leaf_names(work) == sorted(
        # A SimpleNamespace belongs to the standard library.
        ["u", "params['w1']", "params[2]", "layers[1]", "pair[0]", "pair[1][0]", "config.scale", "", ""]
    )


def test_outputs_and_intermediates_have_their_variable_too():
    x = new()
    y = x * 2
    z = y.sin()
    with gradtrace.record() as recording:
        z.backward()
    names = {node.op: node.name for node in recording.trace.passes[0].nodes}
    assert names == {"output": "z", "SinBackward0": "z", "MulBackward0": "y", "AccumulateGrad": "x"}


def test_a_tensor_with_two_names_shows_the_first_bound():
    first = new()
    second = first
    assert leaf_names(lambda: (second * first).backward()) == ["first"]


def test_an_outer_frame_was_there_first():
    outer = new()

    def inner(argument):
        (argument * outer).backward()

    assert leaf_names(lambda: inner(outer)) == ["outer"]


def test_a_tensor_without_a_name_has_none():
    assert leaf_names(lambda: (new(3) * 2).sum().backward()) == [""]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.heads["a"](self.layers(x)) * self.scale


def test_parameters_are_named_by_their_path_from_the_outermost_module_in_reach():
    net = nn.ModuleList([Block()])
    block = net[0]
    assert leaf_names(lambda: block(torch.ones(1, 2)).sum().backward()) == sorted(
        f"net.0.{name}" for name, _ in block.named_parameters()
    )


class Trainer:
    def __init__(self):
        self.model = Block()

    def step(self):
        self.model(torch.ones(1, 2)).sum().backward()


def test_a_method_names_its_model_through_self_and_outside_by_its_owner():
    expected = [name for name, _ in Block().named_parameters()]
    trainer = Trainer()
    assert leaf_names(trainer.step) == sorted(f"trainer.model.{name}" for name in expected)
    names = leaf_names(Trainer().step)
    assert names == sorted(f"self.model.{name}" for name in expected)


def test_a_shared_parameter_has_its_first_path():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight = net[0].weight
    assert leaf_names(lambda: net(torch.ones(1, 2)).sum().backward()) == ["net.0.weight"]


def test_a_name_does_not_keep_its_tensor_alive():
    import weakref  # noqa: PLC0415

    with gradtrace.record() as recording:
        x = new(3)
        loss = (x * 2).sum()
        loss.backward()
        gone = [weakref.ref(x), weakref.ref(loss)]
        del x, loss
        assert [ref() for ref in gone] == [None, None]
    assert recording.trace.passes


def test_objects_that_compute_on_access_are_left_alone():
    class Lazy:
        def __getattr__(self, name):
            raise SystemExit(name)

        @property
        def tensor(self):
            raise SystemExit

    lazy, x = Lazy(), new()
    assert leaf_names(lambda: (x * 2).backward()) == ["x"]
    del lazy


def registered(model, other, _):
    model.add_module("other", other)


def replaced_unseen(model, *_):
    model[0]._parameters["weight"] = nn.Parameter(torch.ones(2, 2))


def removed(_, __, outer):
    outer._modules.pop("other", None)


def replaced(model, *_):
    model[1] = nn.Linear(2, 2)


CHANGES = [registered, replaced_unseen, removed, replaced]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_names_remembered_from_pass_to_pass_are_those_of_a_new_search(change, monkeypatch):
    found = one_recording(change)
    roots = ModulePaths.roots
    monkeypatch.setattr(ModulePaths, "roots", lambda self, *modules: (self.forget(), roots(self, *modules))[1])
    assert found == one_recording(change)
    assert all(name for names in found for name in names)


def one_recording(change, steps=6):
    """The names of the leaves in each pass of one recording, in which ``change`` alters the model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    other = nn.Linear(2, 2)
    outer = nn.ModuleDict({"other": other})
    with Recorder() as recorder:
        for step in range(steps):
            if step > 1:
                change(model, other, outer)
            other(model(torch.ones(1, 2))).sum().backward()
    return [[node.name for node in graph.nodes if node.kind == "leaf"] for graph in recorder.trace.passes]


def test_names_in_a_model_that_is_given_are_its_own_paths():
    class Holder:
        def __init__(self):
            self._hidden = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1)))

    holder = Holder()
    model = holder._hidden
    with gradtrace.record(model=model) as recording:
        model[1](model[0](torch.ones(1, 2))).sum().backward()
    nodes = recording.trace.passes[0].nodes
    assert {node.name for node in nodes if node.kind == "leaf"} == {name for name, _ in model.named_parameters()}
    assert {node.module for node in nodes if node.op == "AddmmBackward0"} == {"0", "1.0"}
