"""Operations on the axes of tensors, as expressions per element: their derivatives against autograd's gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from gradtrace.explain.derivation import derive
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay.taped_recorder import TapedRecorder
from tests.sweeps import sweep


def rand(*shape):
    generator = torch.Generator().manual_seed(sum(shape) + len(shape))
    return torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.5


def squared(value):
    return (value * value).sum()


TARGET = torch.tensor([0, 3, 1])
SHAPED = {
    "a row added to each row": lambda x, y: squared(x + y),
    "a column times a row": lambda x, y: squared(x[:, :1] * y),
    "sum over the rows": lambda x, y: squared(x.sum(0) * y),
    "sum over the last, kept": lambda x, y: squared(x / x.sum(-1, keepdim=True) + y),
    "mean over both": lambda x, y: (x.mean(dim=(0, 1)) * y).sum(),
    "mean over one": lambda x, y: (x.mean(dim=1).exp()).sum() + y.mean(),
    "product over one": lambda x, y: (x.prod(1) * 2).sum() + y.prod(),
    "variance": lambda x, y: x.var() + y.std() + x.var(0).sum(),
    "variance of a population": lambda x, y: x.var(0, unbiased=False).sum() + y.std(unbiased=False),
    "norm": lambda x, y: x.norm() * y.norm() + torch.linalg.vector_norm(x, dim=1).sum(),
    "an element": lambda x, y: x[0, 1] * y[2] + x[-1, -1],
    "a slice": lambda x, y: squared(x[1:, 1:3]) + squared(y[:2] * y[1:3]),
    "every other": lambda x, y: squared(x[:, ::2]) + (x[::2] * y).sum(),
    "new axes": lambda x, y: squared(x[:, None] * y[..., None, :]) + squared(y[None, :, None]),
    "rows by number": lambda x, y: squared(x[TARGET - TARGET // 3 * 2]) + y.sum(),
    "elements by number": lambda x, y: (x[torch.arange(3), TARGET] * y[TARGET]).sum(),
    "cat": lambda x, y: squared(torch.cat([x, y[None]])) + squared(torch.cat([y, y], 0)),
    "stack": lambda x, y: squared(torch.stack([y, x[1], y * y], 1)),
    "split": lambda x, y: sum(squared(part) * (n + 1) for n, part in enumerate(x.split([1, 2]))) + y.sum(),
    "chunk and unbind": lambda x, y: squared(y.chunk(2)[1]) + (x.unbind(0)[1] * y).sum(),
    "transposed": lambda x, y: squared(x.T * torch.arange(3.0)) + (x.permute(1, 0).unsqueeze(0)[0, 2]).sum() + y.sum(),
    "expanded": lambda x, y: squared(y.expand(3, 4) * x) + squared(y.unsqueeze(1).expand(4, 2)),
    "reshaped": lambda x, y: squared(x.reshape(1, 3, 4).squeeze() * y.view(1, 4)),
    "matrix times matrix": lambda x, y: squared(x @ x.T) + y.sum(),
    "matrix times vector": lambda x, y: squared(torch.tanh(x @ y)),
    "vector times matrix": lambda x, y: squared(y @ x.T) + y @ y,
    "batched": lambda x, y: squared(x.unsqueeze(0) @ x.T.expand(2, 4, 3)) + y.sum(),
    "linear twice": lambda x, y: squared(F.linear(F.relu(F.linear(x, x, None)), x.T, y)),
    "softmax": lambda x, y: (x.softmax(-1) * y).sum() + squared(torch.softmax(x, 0)),
    "log_softmax": lambda x, y: (x.log_softmax(1) * y).sum() + x.logsumexp(0).sum(),
    "cross entropy": lambda x, y: F.cross_entropy(x, TARGET) + F.nll_loss(x * y, TARGET, reduction="sum"),
    "cross entropy of one": lambda x, y: F.cross_entropy(y, torch.tensor(2)) + x.sum(),
    "soft targets": lambda x, y: F.cross_entropy(x, torch.full((3, 4), 0.25, dtype=torch.float64)) + y.sum(),
    "losses": lambda x, y: F.mse_loss(x, x * y) + F.l1_loss(x, y + 2 * x, reduction="sum")
    + F.binary_cross_entropy_with_logits(y, torch.tensor([0.0, 1, 1, 0], dtype=torch.float64)),
    "cumulated": lambda x, y: squared(x.cumsum(1)) + squared(y.cumsum(0)),
    "where": lambda x, y: torch.where(x > 1, x * x, y).sum(),
    "embedding": lambda x, y: squared(F.embedding(TARGET % 2, x)) + y.sum(),
    "clamped": lambda x, y: squared(x.clamp(0.7, 1.2)) + squared(y.clamp(min=0.9)) + squared(F.leaky_relu(y - 1, 0.1)),
    "gelu": lambda x, y: F.gelu(x).sum() + F.gelu(y, approximate="tanh").sum() + F.silu(y).sum(),
}  # fmt: skip


def lines_of(function, *shapes):
    with TapedRecorder(Options(calls=True)) as recorder:
        x, y = (rand(*shape).requires_grad_() for shape in shapes)
        f = function(x, y)
        f.backward()
    del f
    return derive(recorder.trace.passes[-1]), [x, y]


@pytest.mark.parametrize("name", SHAPED)
def test_the_formula_of_each_leaf_is_autograds_gradient_in_each_element(name):
    lines, leaves = lines_of(SHAPED[name], (3, 4), (4,))
    assert not any("(" in line.left for line in lines)
    shown = {line.left.strip("ᵢⱼ").rpartition("∂")[2]: line for line in lines if line.autograd}
    for leaf_name, leaf in zip("xy", leaves, strict=True):
        number = shown[leaf_name].number
        assert number is not None, shown[leaf_name]
        assert number.agrees
        assert number.elements == leaf.numel()
        assert number.error <= 1e-12 * max(1.0, leaf.grad.abs().max().item())
    assert not any(line.differs for line in lines)


STEPS = {
    "sin": torch.sin, "tanh": torch.tanh, "square": lambda x: x**2, "relu": torch.relu,
    "softmax": lambda x: x.softmax(-1), "rows": lambda x: x - x.mean(-1, keepdim=True), "turn": lambda x: x.mT,
    "column sums": lambda x: x + x.sum(-2, keepdim=True),
    "first": lambda x: x * x[..., :1, :], "cumsum": lambda x: x.cumsum(-1),
}  # fmt: skip


@sweep(
    6, 25, st.lists(st.sampled_from([*STEPS, "times"]), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 3)
)
def test_any_of_these_one_after_the_other_have_autograds_gradient(steps, rows, columns):
    with TapedRecorder(Options(calls=True)) as recorder:
        x, w = rand(rows, columns).requires_grad_(), rand(columns, columns).requires_grad_()
        value = x
        for step in steps:
            value = (value @ w if value.shape[-1] == columns else value * 2) if step == "times" else STEPS[step](value)
        f = (value * value).sum() + w.sum()
        f.backward()
    lines = derive(recorder.trace.passes[-1])
    assert not any(line.differs for line in lines)
    found = {line.left.strip("ᵢⱼ").rpartition("∂")[2]: line.number for line in lines if line.autograd}
    for name, leaf in (("x", x), ("w", w)):
        scale = max(1.0, leaf.grad.abs().max().item())
        assert found[name] is not None
        assert found[name].error <= 1e-10 * scale


def test_a_large_tensor_is_compared_in_all_elements():
    lines, _ = lines_of(lambda x, y: squared(torch.tanh(x @ y)), (300, 200), (200,))
    assert [line.number.elements for line in lines if line.autograd] == [60_000, 200]


def test_softmax_cross_entropy_is_probability_less_target():
    with TapedRecorder(Options(calls=True)) as recorder:
        logits = torch.rand(4, 3, requires_grad=True)
        target = torch.tensor([0, 2, 1, 1])
        loss = F.cross_entropy(logits, target)
        loss.backward()
    line = derive(recorder.trace.passes[0])[-1]
    assert line.left == "∂loss/∂logitsᵢⱼ"
    assert line.right == "-[targetᵢ = j]/4 + exp(logitsᵢⱼ)/(4·Σₖ exp(logitsᵢₖ))"


def test_the_second_derivative_of_a_tensor_has_all_pairs_of_elements():
    def function(x):
        return (x**3).sum() + x.sum() ** 2

    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
        f = function(x)
        f.backward()
    line = derive(recorder.trace.passes[0], order=2)[-1]
    assert (line.left, line.right) == ("∂²f/∂xᵢ∂xⱼ", "6·xᵢ·[i = j] + 2")
    assert line.value == torch.autograd.functional.hessian(function, x.detach()).tolist()


def test_complex_numbers_stay_letters():
    with TapedRecorder(Options(calls=True)) as recorder:
        z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
        f = (z * z.conj()).real.sum()
        f.backward()
    shown = {line.left: line for line in derive(recorder.trace.passes[0])}
    assert shown["z2"].right == "mul(z, z1)"
    assert shown["∂f/∂z"].right == "∂f/∂z2·∂z2/∂z + ∂f/∂z1·∂z1/∂z"
    assert shown["∂f/∂z"].number is None
