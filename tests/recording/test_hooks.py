"""Hooks of the script: what they change shows as the difference between edge and node."""

from __future__ import annotations

import pytest
import torch

import gradtrace


def recorded(work):
    with gradtrace.record() as recording:
        work()
    return recording.trace.passes[-1]


def leaf(graph, name):
    return next(node for node in graph.nodes if node.kind == "leaf" and node.name == name)


def test_a_tensor_hook_shows_as_the_difference_between_edge_and_node():
    x = torch.tensor(2.0, requires_grad=True)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    graph = recorded(lambda: (y * 5).backward())
    node = next(node for node in graph.nodes if node.name == "y")
    (edge,) = graph.edges_into[node.id]
    assert (edge.grad.values, node.grads[0].values) == (5.0, 50.0)
    assert leaf(graph, "x").grads[0].values == x.grad.item() == 150.0


def test_a_hook_on_a_leaf_shows_there():
    x = torch.tensor(2.0, requires_grad=True)
    x.register_hook(lambda g: g * 0)
    graph = recorded(lambda: (x * 5).backward())
    (edge,) = graph.edges_into[leaf(graph, "x").id]
    assert (edge.grad.values, leaf(graph, "x").grads[0].values, x.grad.item()) == (5.0, 0.0, 0.0)


def test_node_hooks_show_what_they_pass_on():
    x = torch.tensor(2.0, requires_grad=True)
    y = x * 3
    y.grad_fn.register_prehook(lambda grads: (grads[0] + 1,))
    y.grad_fn.register_hook(lambda sent, _: (sent[0] * 2, None))
    graph = recorded(lambda: (y * 5).backward())
    assert leaf(graph, "x").grads[0].values == x.grad.item() == (5 + 1) * 3 * 2


def test_a_module_s_backward_hook_shows_as_the_scaling_that_it_is():
    torch.manual_seed(0)
    inner = torch.nn.Linear(2, 2)
    model = torch.nn.Sequential(inner, torch.nn.Tanh())
    model[1].register_full_backward_hook(lambda _, sent, __: (sent[0] * 0.5,))
    graph = recorded(lambda: model(torch.ones(1, 2)).sum().backward())
    assert leaf(graph, "model.0.weight").grads[0].norm == pytest.approx(inner.weight.grad.norm().item())
    assert "BackwardHookFunctionBackward" in {node.op for node in graph.nodes}


def test_an_optimizer_that_steps_inside_backward_leaves_the_gradients_on_the_picture():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = torch.optim.SGD([x], 0.1)

    def step(parameter):
        optimizer.step()
        parameter.grad = None

    x.register_post_accumulate_grad_hook(step)
    graph = recorded(lambda: (x * x).sum().backward())
    assert x.grad is None
    assert leaf(graph, "x").grads[0].values == [2.0, 4.0]
    assert leaf(graph, "x").values[0].values == [1.0, 2.0]


def test_a_gradient_that_is_zeroed_in_place_later_is_shown_as_it_was():
    x = torch.tensor([1.0, 2.0], requires_grad=True)

    def zero(parameter):
        parameter.grad.zero_()

    x.register_post_accumulate_grad_hook(zero)
    graph = recorded(lambda: (x * x).sum().backward())
    assert leaf(graph, "x").grads[0].values == [2.0, 4.0]


def test_the_node_that_a_failing_hook_stands_on_is_the_one_that_failed():
    x = torch.tensor(2.0, requires_grad=True)

    def fail(_):
        raise KeyError("in a hook")

    x.register_post_accumulate_grad_hook(fail)

    def work():
        with pytest.raises(KeyError):
            (x * x).backward()

    graph = recorded(work)
    assert graph.error.type == "KeyError"
    assert graph.by_id[graph.error.node].name == "x"


def test_retained_gradients_and_hooks_keep_their_order():
    seen = []
    x = torch.tensor(2.0, requires_grad=True)
    y = x * 3
    y.register_hook(lambda _: seen.append("tensor"))
    y.retain_grad()
    y.grad_fn.register_prehook(lambda _: seen.append("before"))
    y.grad_fn.register_hook(lambda *_: seen.append("after"))
    x.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))
    recorded(lambda: y.backward())
    assert seen == ["tensor", "before", "after", "accumulated"]
    assert y.grad.item() == 1
