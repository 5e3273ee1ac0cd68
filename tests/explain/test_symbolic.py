"""Expressions rebuilt from recorded calls: symbolic, autograd and finite differences give the same numbers."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from msgspec.structs import replace

from gradtrace.explain.derivation import derive
from gradtrace.model import TensorStats
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay.taped_recorder import TapedRecorder
from tests.sweeps import sweep

UNARY = {
    "sin": torch.sin, "cos": torch.cos, "exp": lambda x: torch.exp(x / 4), "tanh": torch.tanh,
    "log": lambda x: torch.log(x * x + 1), "sqrt": lambda x: torch.sqrt(x * x + 2), "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus, "erf": torch.erf, "square": lambda x: x**2, "neg": lambda x: -x,
    "sinh": lambda x: torch.sinh(x / 3), "atan": torch.atan, "cube": lambda x: (x / 2) ** 3, "abs": torch.abs,
    "relu": torch.relu, "over": lambda x: 2 / (x**2 + 1), "less": lambda x: 1.5 - x,
}  # fmt: skip
BINARY = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": lambda a, b: a / (b * b + 1)}


@st.composite
def expressions(draw):
    """The values of the leaves, and steps that each combine what there is so far."""
    numbers = st.floats(-2, 2).filter(lambda x: abs(x) > 0.05).map(lambda x: round(x, 3))
    leaves = draw(st.lists(numbers, min_size=1, max_size=3))
    ops = st.sampled_from([*UNARY, *BINARY])
    steps = draw(st.lists(st.tuples(ops, st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7))
    return leaves, steps, draw(st.booleans())


def build(values, steps, *, tensors):
    leaves = [torch.tensor([v, v / 2 + 1, 0.3 - v] if tensors else v, dtype=torch.float64) for v in values]
    known = [leaf.requires_grad_() for leaf in leaves]
    for op, first, second in steps:
        a, b = known[-1 - first % len(known)], known[-1 - second % len(known)]
        known.append(UNARY[op](a) if op in UNARY else BINARY[op](a, b))
    last = known[-1]
    return leaves, (last * last).sum() + last.mean() if tensors else last + 0


def recorded(make, **options):
    with TapedRecorder(Options(calls=True, **options)) as recorder:
        leaves, y = make()
        y.backward()
    return recorder.trace.passes[-1], leaves, y


def flat(value, size):
    return value if isinstance(value, list) else [value] * size


@sweep(20, 100, expressions())
def test_symbolic_autograd_and_finite_differences_agree(program):
    values, steps, tensors = program
    graph, leaves, y = recorded(lambda: build(values, steps, tensors=tensors), numeric=True)
    assume(math.isfinite(y.item()) and abs(y.item()) < 1e6)
    lines = derive(graph)
    assert lines[0].value is None or lines[0].value == pytest.approx(y.item(), rel=1e-9, abs=1e-9)
    shown = {line.left.rstrip("ᵢ").rpartition("∂")[2]: line for line in lines[1:] if line.autograd}
    for index, leaf in enumerate(leaves):
        if leaf.grad is None:
            continue
        line = shown[f"leaves[{index}]"]
        expected = leaf.grad.reshape(-1).tolist()
        if line.value is not None:
            scale = max(1e-3, *map(abs, expected))
            assert flat(line.value, len(expected)) == pytest.approx(expected, rel=1e-7, abs=1e-9 * scale)
        assert not line.differs
        assert line.comparison.agrees, line.comparison
    assert all(found.agrees for found in graph.comparisons), graph.comparisons


def text_of(lines):
    return {line.left: line.right for line in lines}


def test_the_partials_example_is_derived_as_a_person_would():
    with TapedRecorder(Options(calls=True)) as recorder:
        u, v = (torch.tensor(x, requires_grad=True) for x in (2.0, 4.0))
        f = u**2 + v**3 + u * v
        f.backward()
    shown = text_of(derive(recorder.trace.passes[0], order=2))
    assert shown == {
        "f": "u**2 + v**3 + u * v", "∂f/∂u": "2·u + v", "∂f/∂v": "u + 3·v²",
        "∂²f/∂u²": "2", "∂²f/∂u∂v": "1", "∂²f/∂v²": "6·v",
    }  # fmt: skip


def test_second_derivatives_are_those_of_autograd():
    def function(u, v):
        return torch.sin(u * v) + u**3 / v

    with TapedRecorder(Options(calls=True)) as recorder:
        u, v = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.7, 1.3))
        f = function(u, v)
        f.backward()
    hessian = torch.autograd.functional.hessian(function, (u.detach(), v.detach()))
    shown = {line.left: line.value for line in derive(recorder.trace.passes[0], order=2)}
    assert shown["∂²f/∂u²"] == pytest.approx(hessian[0][0].item())
    assert shown["∂²f/∂u∂v"] == pytest.approx(hessian[0][1].item())
    assert shown["∂²f/∂v²"] == pytest.approx(hessian[1][1].item())


def test_a_derivative_that_the_script_takes_is_differentiated_again():
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor(0.6, requires_grad=True)
        y = torch.sin(x) * x
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        torch.autograd.grad(first, x)
    line = derive(recorder.trace.passes[1])[-1]
    assert line.left == "∂first/∂x"
    assert line.value == pytest.approx(2 * math.cos(0.6) - 0.6 * math.sin(0.6), rel=1e-6)


def test_what_sympy_has_no_function_for_stays_a_letter_and_the_chain_rule_goes_around_it():
    with TapedRecorder(Options(calls=True)) as recorder:
        weight = torch.ones(2, 2, requires_grad=True)
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        f = torch.tanh(torch.linalg.solve(weight + torch.eye(2), x)).sum()
        f.backward()
    shown = text_of(derive(recorder.trace.passes[0]))
    assert shown["z1"] == "solve(c1ᵢⱼ + weightᵢⱼ, x)"
    assert shown["∂f/∂x"] == "∂f/∂z1·∂z1/∂x"


def test_a_product_is_differentiated_where_an_element_is_zero():
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor([2.0, 0.0, 3.0], requires_grad=True)
        f = x.prod()
        f.backward()
    assert derive(recorder.trace.passes[0])[-1].value == x.grad.tolist() == [0.0, 6.0, 0.0]


def test_names_that_are_no_letters_are_kept():
    with TapedRecorder(Options(calls=True)) as recorder:
        params = {"w1": torch.tensor(3.0, requires_grad=True)}
        lambda_i = torch.tensor(2.0, requires_grad=True)
        f = params["w1"] * lambda_i
        f.backward()
    assert text_of(derive(recorder.trace.passes[0]))["∂f/∂params['w1']"] == "lambda_i"


def test_a_derivative_that_backward_leaves_in_grad_is_differentiated_again():
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor(0.5, requires_grad=True)
        y = x**4
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the gradient and its leaf refer to each other
            y.backward(create_graph=True)
        slope = x.grad
        x.grad = None
        slope.backward()
    first, second = derive(recorder.trace.passes[1])
    assert (first.left, first.right) == ("slope", "4·x³")
    assert (second.left, second.right, second.value) == ("∂slope/∂x", "12·x²", x.grad.item())


def test_a_softmax_by_hand_is_written_in_latex():
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        p = torch.exp(x) / torch.exp(x).sum()
        loss = -torch.log(p[1])
        loss.backward()
    line = derive(recorder.trace.passes[0])[-1]
    assert line.right == "-[i = 1] + exp(xᵢ)/(Σⱼ exp(xⱼ))"
    assert line.right_latex == r"- \left[i = 1\right] + \frac{e^{x_{i}}}{\sum_{j} e^{x_{j}}}"


@pytest.mark.parametrize("steps", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_long_chain_is_told_with_letters(steps):
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        y = x
        for _ in range(steps):
            y = torch.sin(y) * 1.01 + x * y
        y.backward()
    line = derive(recorder.trace.passes[0])[-1]
    assert line.left == "∂y/∂x"
    assert line.number.agrees


@pytest.mark.parametrize("number", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(), (1,), (2,), (6,), (3, 2), (2, 3, 1)])
def test_a_seed_of_another_shape_than_its_output_gives_no_number(shape, number):
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        y = x**3
        y.backward(torch.full_like(y, number))
    graph = recorder.trace.passes[0]
    assert derive(graph)[-1].value == x.grad.tolist()
    seed = TensorStats(shape, "float32", min=number, max=number, values=torch.full(shape, number).tolist())
    nodes = tuple(replace(node, grads=(seed,)) if node.kind == "output" else node for node in graph.nodes)
    lines = derive(replace(graph, nodes=nodes))
    assert lines[-1].left == "∂y/∂xᵢⱼ"
    assert [line.value for line in lines] == [None] * len(lines)
