"""The recipes for kinds of models: each runs, is healthy, and its graph has PyTorch's own gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import gradtrace
from tests.checking import findings

FOLDER = Path(__file__).parent.parent / "examples" / "models"
TWICE = {"gan": {"discriminator"}}  # modules that a later pass adds a gradient to


def recorded(name):
    path = FOLDER / f"{name}.py"
    variables = {"__name__": "__main__", "__file__": str(path)}
    with gradtrace.record() as recording:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), variables)
    return recording.trace, variables


def parameters(variables, name):
    modules = {key: value for key, value in variables.items() if isinstance(value, nn.Module)}
    for key, module in modules.items():
        if key not in TWICE.get(name, ()):
            yield from ((f"{key}.{each}", parameter) for each, parameter in module.named_parameters())


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_recipe_is_healthy_and_its_leaves_show_the_gradients_of_pytorch(name, capsys, tmp_path):
    trace, variables = recorded(name)
    found = findings((FOLDER / f"{name}.py").read_text(encoding="utf-8"), tmp_path)
    capsys.readouterr()
    assert [finding for finding in found if finding.severity != "info"] == []
    last = trace.passes[-1]
    shown = {tuple(node.values[0].shape): [] for node in last.nodes if node.kind == "leaf"}
    for node in last.nodes:
        if node.kind == "leaf" and node.grads[0] is not None:
            shown[tuple(node.values[0].shape)].append(node.grads[0].norm)
    compared = 0
    for key, parameter in parameters(variables, name):
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        if name == "rnn":  # which clips them after backward
            continue
        norm = parameter.grad.double().norm().item()
        assert any(each == pytest.approx(norm, rel=1e-5, abs=1e-12) for each in shown[tuple(parameter.shape)]), key
        compared += 1
    assert compared or name == "rnn"


def test_the_clipped_norm_of_the_recurrent_recipe_is_that_of_the_gradients_in_its_graph(capsys):
    trace, variables = recorded("rnn")
    capsys.readouterr()
    squares = sum(node.grads[0].norm ** 2 for node in trace.passes[-1].nodes if node.kind == "leaf")
    assert variables["norm"].item() == pytest.approx(squares**0.5, rel=1e-5)


def test_the_first_pass_of_the_gan_does_not_reach_the_generator(capsys):
    trace, _ = recorded("gan")
    capsys.readouterr()
    names = [[node.name for node in graph.nodes if node.kind == "leaf"] for graph in trace.passes]
    assert not any("generator" in name for name in names[0])
    assert any("generator" in name for name in names[1])


def test_the_second_derivative_of_the_physics_recipe_is_that_of_finite_differences(capsys):
    _, variables = recorded("pinn")
    capsys.readouterr()
    network, x = variables["u"].double(), variables["x"].detach().double()
    h = 1e-4
    with torch.no_grad():
        expected = (network(x + h) - 2 * network(x) + network(x - h)) / h**2
    assert torch.allclose(variables["second"].double(), expected, atol=1e-5)
