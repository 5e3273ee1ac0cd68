"""Higher order and torch.func: results unchanged, each pass its own graph, nodes that know where they come from."""

from __future__ import annotations

import pytest
import torch
from torch import func
from torch.autograd import functional
from torch.autograd.function import once_differentiable

import gradtrace
from gradtrace.recording.recorder import Options, Recorder
from gradtrace.wording.phrases import note


def cube(x):
    return (x**3).sum()


def jvp_of(x):
    return func.jvp(torch.sin, (x,), (torch.ones_like(x),))


def per_sample(x):
    model = torch.nn.Linear(3, 1)
    torch.nn.init.constant_(model.weight, 0.5)
    torch.nn.init.constant_(model.bias, 0.1)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters, sample):
        return func.functional_call(model, parameters, (sample,)).square().sum()

    return func.vmap(func.grad(loss), in_dims=(None, 0))(parameters, torch.stack([x, 2 * x]))


TRANSFORMS = {
    "grad": lambda x: func.grad(cube)(x),
    "grad of grad": lambda x: func.grad(lambda y: func.grad(cube)(y).sum())(x),
    "vmap of grad": lambda x: func.vmap(func.grad(lambda y: y**3))(x),
    "jacrev": lambda x: func.jacrev(torch.sin)(x),
    "jacfwd": lambda x: func.jacfwd(torch.sin)(x),
    "hessian": lambda x: func.hessian(cube)(x),
    "vjp": lambda x: func.vjp(torch.sin, x)[1](torch.ones_like(x)),
    "jvp": jvp_of,
    "per-sample gradients": per_sample,
    "functional.hessian": lambda x: functional.hessian(cube, x),
    "functional.jacobian": lambda x: functional.jacobian(torch.sin, x, vectorize=True),
    "functional.vhp": lambda x: functional.vhp(cube, x, torch.ones_like(x)),
    "functional.jvp": lambda x: functional.jvp(torch.sin, x, torch.ones_like(x)),
    "batched grad": lambda x: torch.autograd.grad(
        torch.sin(y := x.clone().requires_grad_()), y, torch.eye(3), is_grads_batched=True
    ),
    "grad inside a backward": lambda x: func.grad(lambda y: func.vmap(torch.sin)(y).sum())(x.clone().requires_grad_()),
}


def leaves(tree):
    if isinstance(tree, torch.Tensor):
        return [tree]
    return [leaf for part in (tree.values() if isinstance(tree, dict) else tree) for leaf in leaves(part)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_gives_the_same_result_and_is_never_an_error(name):
    x = torch.tensor([0.3, -1.2, 2.0])
    expected = leaves(TRANSFORMS[name](x))
    with gradtrace.record() as recording:
        found = leaves(TRANSFORMS[name](x))
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for graph in recording.trace.passes:
        assert graph.error is None
        assert all(
            stats is None or stats.norm is not None or stats.note for node in graph.nodes for stats in node.grads
        )


def test_a_second_derivative_knows_the_nodes_of_the_first_pass_it_came_from():
    x = torch.tensor(0.7, requires_grad=True)
    with gradtrace.record() as recording:
        (first,) = torch.autograd.grad(torch.sin(x) * x, x, create_graph=True)
        (second,) = torch.autograd.grad(first, x)
    assert second.item() == pytest.approx((2 * torch.cos(x) - x * torch.sin(x)).item())
    one, two = recording.trace.passes
    made = [node for node in two.nodes if node.origin is not None]
    assert made
    for node in made:
        assert node.origin.pass_index == 1
        maker = one.by_id[node.origin.node]
        assert maker.op == node.origin.op
        assert node.source == maker.source
    # d sin = cos * gradient: the cosine was made by the run of SinBackward0.
    assert {node.origin.op for node in two.nodes if node.op == "CosBackward0"} == {"SinBackward0"}


def test_a_gradient_penalty_is_two_passes_each_with_its_own_graph():
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.randn(3, 2, requires_grad=True)
    with gradtrace.record() as recording:
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
    first, second = recording.trace.passes
    assert (first.kind, second.kind) == ("grad", "backward")
    assert "TanhBackwardBackward0" in {node.op for node in second.nodes} - {node.op for node in first.nodes}
    shown = {node.name: node.grads[0] for node in second.nodes if node.kind == "leaf"}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert shown[f"model.{name}"].norm == pytest.approx(parameter.grad.norm().item(), rel=1e-5)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


def test_a_backward_that_is_differentiable_once_ends_the_second_graph_with_its_error():
    x = torch.tensor(3.0, requires_grad=True)
    with gradtrace.record() as recording:
        (first,) = torch.autograd.grad(Once.apply(x) ** 2, x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.backward()
    second = recording.trace.passes[1]
    assert "Error" in second.by_id[second.error.node].op


class Sine(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


def test_custom_functions_run_under_transforms():
    points = torch.tensor([0.0, 1.0, 2.0])
    with gradtrace.record() as recording:
        slopes = torch.func.vmap(torch.func.grad(Sine.apply))(points)
    assert torch.equal(slopes, points.cos())
    assert recording.trace.passes


def test_nodes_of_a_higher_order_say_which_backward_made_them_whether_its_pass_is_kept_or_not():
    for keep, node in ((None, "n2"), (frozenset(), "")):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        with Recorder(Options(keep=keep)) as recorder:
            (g,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
            g.square().sum().backward()
        trace = recorder.trace
        made = [node for node in trace.passes[-1].nodes if node.origin]
        assert len(made) == 3
        assert {(n.origin.pass_index, n.origin.node, n.origin.op) for n in made} == {(1, node, "PowBackward0")}
        assert {n.source.text for n in made} == {"x**3"}
        assert {note(n) for n in made} == {"made when PowBackward0 of x**3 ran in pass 1"}
