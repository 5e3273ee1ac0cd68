"""Layers of networks are index sums whose numbers are autograd's in every element."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradtrace.explain.derivation import derive
from gradtrace.explain.explanation import explain
from gradtrace.recording.recorder import Options
from tests.explain.test_indices import TapedRecorder, lines_of, rand, squared

ROOT = Path(__file__).parents[2]

TOKENS = torch.tensor([[0, 2, 1], [1, 1, 2]])


def causal(x, y):
    return squared(F.scaled_dot_product_attention(x, y, x * y, is_causal=True))


def masked(x, y):
    mask = torch.tensor([[0.0, -1.0, 0.5], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    return squared(F.scaled_dot_product_attention(x, y, y, mask, scale=0.3))


# A function of two leaves, and their shapes.
LAYERS = {
    "convolution": (lambda x, y: squared(F.conv2d(x, y)), (2, 3, 5, 4), (2, 3, 3, 2)),
    "with a stride and zeros around": (lambda x, y: squared(F.conv2d(x, y, None, 2, 1)), (2, 3, 5, 5), (4, 3, 3, 3)),
    "along one axis, spread": (
        lambda x, y: squared(F.conv1d(x, y, dilation=2, padding=2, stride=3)), (2, 3, 9), (2, 3, 3),
    ),
    "in space": (lambda x, y: squared(F.conv3d(x, y)), (1, 2, 3, 3, 4), (2, 2, 2, 2, 2)),
    "after each other": (lambda x, y: squared(F.conv1d(F.relu(F.conv1d(x, y, padding=1)), y)), (1, 2, 6), (2, 2, 3)),
    "with a bias": (lambda x, y: squared(F.conv1d(x, x[:, :, :2], y)), (2, 2, 4), (2,)),
    "with groups": (lambda x, y: squared(F.conv1d(x, y, groups=2)), (2, 4, 6), (6, 2, 3)),
    "depthwise": (lambda x, y: squared(F.conv2d(x, y, padding=1, groups=3)), (2, 3, 4, 4), (3, 1, 3, 3)),
    "depthwise, several each": (lambda x, y: squared(F.conv1d(x, y, None, 2, 1, 1, 2)), (2, 2, 6), (6, 1, 3)),
    "a channel of each group": (lambda x, y: squared(F.conv1d(x, y, groups=2)), (1, 6, 4), (2, 3, 2)),
    "same": (lambda x, y: squared(F.conv2d(x, y, padding="same", dilation=(2, 1))), (1, 2, 6, 5), (3, 2, 2, 4)),
    "valid, no batch": (lambda x, y: squared(F.conv1d(x, y, padding="valid")), (2, 6), (3, 2, 3)),
    "maximum of windows with edges": (lambda x, y: squared(F.max_pool2d(x * y, 3, 2, 1)), (2, 2, 5, 6), (6,)),
    "negative maxima at edges": (lambda x, y: squared(F.max_pool1d(-x * y, 2, padding=1)), (1, 4, 6), (6,)),
    "spread windows with edges": (lambda x, y: squared(F.max_pool1d(x * y, 3, 1, 1, 2)), (1, 2, 9), (9,)),
    "average with edges": (lambda x, y: squared(F.avg_pool2d(x * y, 3, 2, 1)), (1, 2, 5, 4), (4,)),
    "average without the edges": (
        lambda x, y: squared(F.avg_pool1d(x * y, 3, 2, 1, count_include_pad=False)), (1, 2, 5), (5,),
    ),
    "average to a size": (lambda x, y: squared(F.adaptive_avg_pool2d(x * y, (2, 1))), (2, 2, 4, 3), (3,)),
    "maximum of windows": (lambda x, y: squared(F.max_pool2d(x * y, 2)), (2, 2, 4, 6), (6,)),
    "of overlapping windows": (lambda x, y: squared(F.max_pool1d(x * y, 3, 2)), (2, 2, 9), (9,)),
    "of equal values": (lambda x, y: squared(F.max_pool2d(F.relu(x - 1), 3, 1)) + y.sum(), (1, 2, 5, 5), (1,)),
    "average of windows": (lambda x, y: squared(F.avg_pool2d(x * y, (2, 1))), (2, 2, 4, 3), (3,)),
    "largest of all": (lambda x, y: (x * y).max() ** 2 + y.min() ** 3, (3, 4), (4,)),
    "largest of rows": (lambda x, y: squared((x * y).max(1)[0]) + squared((x + y).min(0).values), (3, 4), (4,)),
    "largest, shared": (lambda x, y: squared(F.relu(x - 1).amax(1)) + F.relu(y - 1).amin() ** 2, (3, 4), (4,)),
    "larger of two": (lambda x, y: squared(torch.maximum(x, y)) + squared(torch.min(x, y * y)), (3, 4), (4,)),
    "layer norm": (lambda x, y: squared(F.layer_norm(x, (4,), y, y) * x), (3, 4), (4,)),
    "layer norm over two axes": (lambda x, y: squared(F.layer_norm(x, (2, 3)) * y), (2, 2, 3), (3,)),
    "batch norm": (lambda x, y: squared(F.batch_norm(x, None, None, y, y, True) * x), (5, 3), (3,)),
    "batch norm of images": (
        lambda x, y: squared(F.batch_norm(x, None, None, y, None, training=True) * x), (2, 3, 2, 2), (3,),
    ),
    "attention": (lambda x, y: squared(F.scaled_dot_product_attention(x, y, y)), (2, 3, 4), (2, 5, 4)),
    "causal attention": (causal, (2, 3, 4), (2, 3, 4)),
    "masked attention": (masked, (2, 3, 2), (2, 3, 2)),
    "embedding": (lambda x, y: squared(F.embedding(TOKENS, x) * y), (3, 4), (4,)),
    "embedding with padding": (lambda x, y: squared(F.embedding(TOKENS, x, padding_idx=1) * y), (3, 4), (4,)),
    "padding from the end": (lambda x, y: squared(F.embedding(TOKENS[0], x, padding_idx=-1) * y), (3, 4), (4,)),
    "merged axes": (lambda x, y: squared(F.linear((x * x).flatten(1), y)), (2, 3, 4), (2, 12)),
    "split axes": (lambda x, y: squared(x.view(2, 3, 4) @ y), (2, 12), (4, 2)),
    "split and merged": (lambda x, y: squared(x.reshape(4, 6) * y), (2, 3, 4), (6,)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_formula_with_autograds_gradient_in_each_element(name):
    function, *shapes = LAYERS[name]
    torch.manual_seed(0)
    lines, leaves = lines_of(function, *shapes)
    assert not any("(" in line.left for line in lines)  # nothing is opaque
    shown = {line.left.partition("∂f/∂")[2][:1]: line for line in lines if line.left.startswith("∂f/∂")}
    for leaf_name, leaf in zip("xy", leaves, strict=True):
        number = shown[leaf_name].number
        assert number is not None, shown[leaf_name]
        assert number.agrees
        assert number.elements == leaf.numel()
        assert number.error <= 1e-12 * max(1.0, leaf.grad.abs().max().item())
    assert not any(line.differs for line in lines)


@pytest.mark.parametrize("key", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_multi_head_attention_is_written_out(key):
    torch.manual_seed(0)
    heads = nn.MultiheadAttention(4, 2).double()
    mask = torch.triu(torch.full((3, 3), -torch.inf, dtype=torch.float64), 1)

    def function(x, y):
        return squared(heads(x, y, y)[0] if key else heads(x, x, x * y, attn_mask=mask)[0])

    lines, _ = lines_of(function, (3, 2, 4), (3, 2, 4))
    compared = [line.number for line in lines if line.autograd]
    assert all(number is not None and number.agrees for number in compared), lines
    assert sum(number.elements for number in compared) >= 2 * 24 + 2 * 64 // 2


@pytest.mark.parametrize("name", ["cnn", pytest.param("transformer", marks=pytest.mark.slow), "lora", "diffusion"])
def test_a_whole_model_has_autograds_gradient_in_each_element_of_each_parameter(name, capsys):
    path = ROOT / "examples" / "models" / f"{name}.py"
    variables = {"__name__": "__main__"}
    with TapedRecorder(Options(calls=True)) as recorder:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), variables)
    capsys.readouterr()
    lines = [line for line in derive(recorder.trace.passes[-1]) if line.autograd]
    assert not any("(" in line.left for line in lines)
    assert all(line.number is not None and line.number.agrees for line in lines)
    leaves = [node for node in recorder.trace.passes[-1].nodes if node.kind == "leaf"]
    assert sum(line.number.elements for line in lines) >= sum(math.prod(leaf.values[0].shape) for leaf in leaves)


def test_batch_norm_in_evaluation_uses_its_running_statistics():
    norm = nn.BatchNorm1d(3).double()
    norm(rand(6, 3))
    norm.eval()
    lines, leaves = lines_of(lambda x, y: squared(norm(x) * y), (5, 3), (3,))
    line = next(line for line in lines if line.left.startswith("∂f/∂x"))
    assert "running_mean" in line.right
    assert line.number.agrees
    assert line.number.elements == leaves[0].numel()


def test_a_maximum_is_written_as_one():
    def function(x, y):
        most = x.max()
        return most + y.min()

    lines, _ = lines_of(function, (3,), (3,))
    assert lines[-3].right == "maxᵢ xᵢ + minᵢ yᵢ"
    assert lines[-2].right == "[xᵢ = maxⱼ xⱼ]"


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: squared(F.avg_pool2d(x, 2, divisor_override=3)) + y.sum(),
        lambda x, y: squared(F.avg_pool1d(x, 4, ceil_mode=True)) + y.sum(),
        lambda x, y: squared(F.adaptive_avg_pool1d(x, 4)) + y.sum(),
        lambda x, y: squared(F.embedding(TOKENS, x[0], scale_grad_by_freq=True)) + y.sum(),
    ],
)
def test_what_is_not_written_out_is_opaque_and_never_wrong(function):
    lines, _ = lines_of(function, (1, 4, 6), (4, 2, 3))
    assert not any(line.differs for line in lines)
    assert any(re.search(r"pool\dd\(|embedding\(", line.right) for line in lines)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, y: F.avg_pool2d(x, 2, divisor_override=3), "no formula of avg_pool2d: with ceil_mode or"),
        (lambda x, y: F.conv_transpose1d(x, y), "no formula of conv_transpose1d: "),
        (lambda x, y: nn.LSTMCell(6, 4).double()(x[0])[0], "no formula of lstm_cell: it is one fused call"),
        (lambda x, y: nn.LSTM(6, 4).double()(x)[0], "no formula of lstm: it is one fused call"),
        (lambda x, y: nn.GRU(6, 4).double()(x)[0], "no formula of gru: it is one fused call"),
        (lambda x, y: F.conv1d(x, y, groups=2), ""),
    ],
)  # fmt: skip
def test_the_reason_why_there_is_no_formula_is_told_once(function, reason):
    with TapedRecorder(Options(calls=True)) as recorder:
        x, y = rand(1, 4, 6).requires_grad_(), rand(4, 2, 3).requires_grad_()
        squared(function(x, y)).backward()
    notes = explain(recorder.trace.passes[0]).notes
    assert len(notes) == bool(reason)
    assert all(note.startswith(reason) for note in notes)


SECOND = {
    "convolution": (lambda x, y: F.conv1d(x, y).pow(3).sum(), (1, 2, 3), (2, 2, 2)),
    "after each other": (
        lambda x, y: squared(F.conv1d(torch.tanh(F.conv1d(x, y, padding=1)), y)), (1, 1, 3), (1, 1, 3),
    ),
    "matrix products": (lambda x, y: squared((x @ y.T) @ (y @ x.T)), (2, 2), (2, 2)),
    "layer norm": (lambda x, y: (F.layer_norm(x, (3,), y) ** 2 * x).sum(), (1, 3), (3,)),
    "batch norm": (lambda x, y: (F.batch_norm(x, None, None, y, None, True) * x * x).sum(), (3, 2), (2,)),
    "attention": (lambda x, y: squared(F.scaled_dot_product_attention(x, y, y)), (1, 2, 2), (1, 2, 2)),
    "largest": (lambda x, y: (x * x).max() * y.sum() + (y * y).amax(), (3,), (2,)),
    "maximum of windows": (lambda x, y: squared(F.max_pool1d(x * y, 3, 2, 1)), (1, 1, 4), (4,)),
    "embedding": (lambda x, y: (F.embedding(TOKENS, x, padding_idx=1) * y).pow(3).sum(), (3, 2), (2,)),
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND)
def test_the_second_derivatives_of_a_layer_are_the_hessian_in_each_element(name):
    function, *shapes = SECOND[name]
    with TapedRecorder(Options(calls=True)) as recorder:
        leaves = x, y = [rand(*shape).requires_grad_() for shape in shapes]
        f = function(x, y)
        f.backward()
    del f
    hessian = torch.autograd.functional.hessian(function, tuple(leaf.detach() for leaf in leaves))
    second = [line for line in derive(recorder.trace.passes[-1], 2) if line.left.startswith("∂²")]
    assert len(second) == 3
    for line, (i, j) in zip(second, [(0, 0), (0, 1), (1, 1)], strict=True):
        expected = hessian[i][j].flatten()
        assert line.number.stats.norm == pytest.approx(expected.norm().item(), rel=1e-9, abs=1e-12), line.left
        if line.number.value is not None:
            found = torch.tensor(line.number.value, dtype=torch.float64).flatten()
            assert torch.allclose(found, expected, atol=1e-9)
