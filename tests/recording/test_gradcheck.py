"""Planted faults are found at their op, healthy built-ins give no finding; torch.autograd.gradcheck is the oracle."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import gradtrace
from gradtrace.errors import TensorError
from tests.sweeps import sweep


def function(forward, backward):
    """Make a custom Function of two tensors from its forward and its backward, which gets (grad, a, b)."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return forward(a, b)

        @staticmethod
        def backward(ctx, grad):
            return backward(grad, *ctx.saved_tensors)

    return Custom


def multiply(a, b):
    return a * b


def matmul(a, b):
    return a @ b


def scale(a, b):
    return a * b + torch.sin(a)


# forward, the right backward, a wrong one, which input is wrong, autograd's factor of the true gradient if it is one
FAULTS = {
    "sign": (multiply, lambda g, a, b: (g * b, g * a), lambda g, a, b: (-g * b, g * a), {0}, -1.0),
    "factor": (multiply, lambda g, a, b: (g * b, g * a), lambda g, a, b: (g * b, 2 * g * a), {1}, 2.0),
    "transposed": (matmul, lambda g, a, b: (g @ b.T, a.T @ g), lambda g, a, b: (g @ b, a.T @ g), {0}, None),
    "missing term": (
        scale, lambda g, a, b: (g * (b + torch.cos(a)), g * a), lambda g, a, b: (g * b, g * a), {0}, None,
    ),
    "both": (multiply, lambda g, a, b: (g * b, g * a), lambda g, a, b: (g * a, g * b), {0, 1}, None),
}  # fmt: skip


def wrong_ops(report):
    return {report.trace.passes[0].by_id[finding.nodes[0]].op for finding in report.findings}


def inputs(seed, dtype, shape=(3, 3)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) + 0.5 for _ in range(2)]


def within(custom, leading, following):
    """Put the op between others, so that a fault reaches every leaf."""
    before = {"tanh": torch.tanh, "exp": torch.exp, "none": lambda x: x * 1.0}[leading]
    after = {"sum": lambda y: y.sum(), "square": lambda y: (y**2).mean(), "softmax": lambda y: y.softmax(0)}[following]
    return lambda a, b: after(custom.apply(before(a), b) * b)


@sweep(10, 40,
    st.sampled_from(sorted(FAULTS)), st.integers(0, 1000), st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["tanh", "exp", "none"]), st.sampled_from(["sum", "square", "softmax"]),
)  # fmt: skip
def test_a_planted_fault_is_found_at_its_node_and_nowhere_else(fault, seed, dtype, leading, following):
    forward, _, wrong, _, factor = FAULTS[fault]
    a, b = (tensor.requires_grad_() for tensor in inputs(seed, dtype))
    report = gradtrace.gradcheck(within(function(forward, wrong), leading, following), (a, b))
    assert wrong_ops(report) == {"CustomBackward"}
    bad = {found.index for found in report.comparisons if found.agrees is False and found.of == "function"}
    assert bad == FAULTS[fault][3]
    if factor is not None:
        (found,) = [found for found in report.comparisons if found.agrees is False and found.of == "function"]
        assert found.factor == pytest.approx(factor, rel=1e-3)
    assert a.grad is None


@sweep(5, 20, st.sampled_from(sorted(FAULTS)), st.integers(0, 1000), st.sampled_from([torch.float32, torch.float64]))
def test_the_right_backward_gives_no_finding(fault, seed, dtype):
    forward, right, *_ = FAULTS[fault]
    a, b = (tensor.requires_grad_() for tensor in inputs(seed, dtype))
    report = gradtrace.gradcheck(within(function(forward, right), "tanh", "square"), (a, b))
    assert report, str(report)
    assert all(found.agrees for found in report.comparisons)


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("size", [3, 40])
def test_a_wrong_broadcast_sum_is_found(size, wrong):
    def backward(g, a, b):
        return g * b, (g * a).mean(0) if wrong else (g * a).sum(0)

    custom = function(multiply, backward)
    a = torch.rand(size, size, dtype=torch.float64, requires_grad=True)
    b = torch.rand(size, dtype=torch.float64, requires_grad=True)
    report = gradtrace.gradcheck(lambda a, b: custom.apply(a, b).sin(), (a, b))
    assert bool(report) is not wrong
    if wrong:
        (finding,) = report.findings
        assert f"{1 / size:.4g} times the true one" in finding.message
        assert "def backward" in finding.source.text


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_torch_gradcheck_says_the_same(fault):
    forward, right, wrong, *_ = FAULTS[fault]
    for backward, healthy in ((right, True), (wrong, False)):
        a, b = (tensor.requires_grad_() for tensor in inputs(3, torch.float64))
        custom = function(forward, backward)
        assert torch.autograd.gradcheck(custom.apply, (a, b), raise_exception=False) is healthy
        assert bool(gradtrace.gradcheck(custom.apply, (a, b))) is healthy


def rand(*shape):
    return torch.rand(*shape, requires_grad=True)


BUILT_IN = {
    "linear": lambda: (F.linear, (rand(4, 3), rand(5, 3), rand(5))),
    "softmax": lambda: (lambda x: (x * 30).softmax(1), (rand(4, 6),)),
    "cross entropy": lambda: (lambda x: F.cross_entropy(x, torch.tensor([1, 0, 2])), (rand(3, 4),)),
    "layer norm": lambda: (lambda x, w: F.layer_norm(x, (8,), w), (rand(5, 8), rand(8))),
    "batch norm": lambda: (nn.BatchNorm1d(4), (rand(6, 4),)),
    "convolution": lambda: (lambda x, w: F.conv2d(x, w, padding=1), (rand(1, 2, 5, 5), rand(3, 2, 3, 3))),
    "attention": lambda: (F.scaled_dot_product_attention, (rand(2, 4, 8), rand(2, 4, 8), rand(2, 4, 8))),
    "embedding": lambda: (lambda w: F.embedding(torch.tensor([1, 1, 3]), w).tanh(), (rand(5, 3),)),
    "max pool": lambda: (lambda x: F.max_pool1d(x, 2), (rand(1, 2, 8),)),
    "gather": lambda: (lambda x: x.gather(1, torch.tensor([[0, 2], [1, 1]])).exp(), (rand(2, 3),)),
    "views": lambda: (lambda x: x.T.reshape(-1)[1:].view(5, 1).expand(5, 2).cumsum(0), (rand(2, 3),)),
    "split": lambda: (lambda x: torch.cat([part * i for i, part in enumerate(x.split(2))]), (rand(6),)),
    "in place": lambda: (lambda x: (x * 2).mul_(x).add_(1).relu_(), (rand(6),)),
    "set item": lambda: (lambda x: set_item(x * 1, x[0] ** 2), (rand(6),)),
    "half": lambda: (lambda x: (x.to(torch.bfloat16) * 3).float().sum(), (rand(6),)),
    "lstm": lambda: (lambda x: nn.LSTM(3, 4)(x)[0], (rand(5, 1, 3),)),
    "norm": lambda: (lambda x: x.norm() + x.std() + torch.linalg.vector_norm(x, 3), (rand(9),)),
    "einsum": lambda: (lambda a, b: torch.einsum("ij,jk->ik", a, b), (rand(3, 4), rand(4, 2))),
    "inverse": lambda: (lambda a: torch.linalg.inv(a + 3 * torch.eye(3)), (rand(3, 3),)),
    "small numbers": lambda: (lambda x: torch.log(x * 1e-6), (rand(5),)),
    "cholesky": lambda: (lambda x: torch.linalg.cholesky(x @ x.T + 3 * torch.eye(4)), (rand(4, 4),)),
    "complex between": lambda: (lambda x: torch.fft.rfft(x).abs(), (rand(8),)),
    "hot softmax": lambda: (lambda x: (x * 100).softmax(-1), (rand(20, 50),)),
    "large": lambda: (lambda x: (x @ x.T).logsumexp(0).mean(), (rand(30, 30),)),
}  # fmt: skip


def set_item(y, value):
    y[2:4] = value
    return y


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_healthy_built_ins_give_no_finding(name):
    torch.manual_seed(0)
    fn, given_inputs = BUILT_IN[name]()
    report = gradtrace.gradcheck(fn, given_inputs)
    assert report, str(report)
    assert any(found.agrees for found in report.comparisons), str(report)


def test_a_kink_is_said_and_not_reported():
    report = gradtrace.gradcheck(torch.relu, torch.zeros((), requires_grad=True))
    assert report
    assert all("kink" in found.note for found in report.comparisons)


def test_a_slope_that_is_none_at_a_kink_is_wrong():
    class Bent(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x.relu()

        @staticmethod
        def backward(_ctx, grad):
            return grad * 7

    report = gradtrace.gradcheck(Bent.apply, torch.zeros((), requires_grad=True))
    assert wrong_ops(report) == {"BentBackward"}


def test_randomness_is_said_and_the_rest_is_compared():
    torch.manual_seed(0)
    report = gradtrace.gradcheck(lambda x: F.dropout(x.sin(), 0.5) ** 2, torch.rand(6, requires_grad=True))
    assert report
    notes = {found.note for found in report.comparisons if found.agrees is None}
    assert notes == {"dropout is random"}
    ops = [report.trace.passes[0].by_id[found.node].op for found in report.comparisons if found.agrees]
    assert set(ops) == {"SinBackward0", "PowBackward0"}


def test_a_view_changed_in_place_is_said():
    def fn(x):
        y = x * 1
        view = y[:2]
        view.mul_(3)
        return y.sum()

    report = gradtrace.gradcheck(fn, torch.rand(4, requires_grad=True))
    assert report, str(report)
    assert "changed in place through a view" in str(report)


def test_a_detached_way_is_a_constant_as_it_is_for_autograd():
    report = gradtrace.gradcheck(lambda x: x * x.detach() + x.sin().detach(), torch.rand(4, requires_grad=True))
    assert report
    assert all(found.agrees for found in report.comparisons)


def test_a_hook_that_changes_a_gradient_is_no_wrong_op():
    def fn(x):
        y = x.sin()
        y.register_hook(lambda grad: grad * 2)
        return y**2

    report = gradtrace.gradcheck(fn, torch.rand(4, requires_grad=True))
    assert report
    assert any("hook" in found.note for found in report.comparisons)


def test_compiled_code_is_left_alone():
    fn = torch.compile(lambda x: (x.sin() * x).sum(), backend="eager", fullgraph=True)
    x = torch.rand(4, requires_grad=True)
    report = gradtrace.gradcheck(lambda x: fn(x) + x.sum(), x)
    assert not report.findings
    (expected,) = torch.autograd.grad(fn(x), x)
    assert expected.tolist() == pytest.approx((x.cos() * x + x.sin()).tolist(), rel=1e-5)


def test_nothing_of_the_script_is_touched():
    x = torch.rand(4, requires_grad=True)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradtrace.gradcheck(lambda x: x.exp(), x)
    assert torch.equal(torch.rand(3), expected)
    assert x.grad is None
    apply = torch.autograd.Function.__dict__["apply"]
    assert "tape" not in repr(getattr(apply, "__func__", apply))


def test_an_input_without_requires_grad_is_an_error():
    with pytest.raises(TensorError, match="no input requires grad"):
        gradtrace.gradcheck(torch.sin, torch.rand(3))


HEALTHY_AT = {
    "an LSTM cell whose state goes nowhere": lambda: (lambda x: torch.nn.LSTMCell(3, 4)(x)[0], (rand(2, 3),)),
    "a gradient that underflows": lambda: (lambda x: (x * 1e-30) * (x * 1e-15), (rand(3),)),
    "a row without gradient, as asked for": lambda: (
        lambda w: F.embedding(torch.tensor([0, 1, 1]), w, padding_idx=1),
        (rand(3, 2),),
    ),
    "a jump": lambda: (lambda x: torch.sign(x) + x, (torch.zeros(3, requires_grad=True),)),
    "an edge": lambda: (lambda x: x**2.5, (torch.zeros(3, requires_grad=True),)),
    "vmap": lambda: (lambda x: torch.vmap(torch.sin)(x), (rand(3),)),
}


@pytest.mark.parametrize("name", HEALTHY_AT)
def test_what_finite_differences_cannot_judge_is_not_reported_as_wrong(name):
    fn, given_inputs = HEALTHY_AT[name]()
    report = gradtrace.gradcheck(fn, given_inputs)
    assert not report.findings, str(report)


def test_the_part_of_a_gradient_that_a_call_sends_itself_is_no_weight_of_its_result():
    report = gradtrace.gradcheck(lambda x: torch.nn.LSTMCell(3, 4)(x)[0], rand(2, 3))
    assert [found.agrees for found in report.comparisons if found.of == "function"].count(True) >= 1


def test_a_cube_is_flat_at_zero():
    report = gradtrace.gradcheck(lambda x: x**3, torch.zeros((), dtype=torch.float64, requires_grad=True))
    assert all(found.agrees for found in report.comparisons), str(report)
