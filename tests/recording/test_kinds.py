"""Everything that a graph can hold: odd tensors, views, several outputs, None; never an exception."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradtrace


def recorded(work):
    with gradtrace.record() as recording:
        work()
    trace = recording.trace
    for graph in trace.passes:
        assert graph.error is None
        assert trace.drawn("json", number=graph.index)
        assert trace.drawn("text", number=graph.index)
    return trace.passes[-1]


def leaf(graph, name):
    return next(node for node in graph.nodes if node.kind == "leaf" and node.name == name)


class Several(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor, nothing, *, scale=1):
        ctx.factor = factor
        return x * factor, torch.tensor([1, 2]), None, x + 1

    @staticmethod
    def backward(ctx, first, *_):
        return first * ctx.factor, None, None


def test_a_custom_function_is_shown_by_its_name_with_all_its_outputs():
    x = torch.ones(2, requires_grad=True)
    graph = recorded(lambda: Several.apply(x, 3, None)[0].sum().backward())
    node = next(node for node in graph.nodes if node.op == "SeveralBackward")
    assert node.source.text == "Several.apply(x, 3, None)"
    assert leaf(graph, "x").grads[0].values == x.grad.tolist() == [3.0, 3.0]
    assert node.grads[0].values == [1.0, 1.0]
    assert all(stats is None or stats.zeros == 1 for stats in node.grads[1:])


def test_outputs_that_got_no_gradient_differ_from_those_that_got_zero():
    x = torch.arange(6.0, requires_grad=True)
    a, b = x.split(3)
    graph = recorded(lambda: (a.sum() + (b * 0).sum()).backward())
    split = next(node for node in graph.nodes if "Split" in node.op)
    assert [stats.zeros for stats in split.grads] == [0.0, 1.0]
    graph = recorded(lambda: x.split(3)[0].sum().backward())
    split = next(node for node in graph.nodes if "Split" in node.op)
    assert [None if stats is None else stats.zeros for stats in split.grads] == [0.0, None]


def test_in_place_changes_of_views_are_copy_slices_with_their_gradients():
    x = torch.ones(3, 2, requires_grad=True)

    def work():
        y = x * 2
        y[0] *= 5
        y[:, 1].mul_(3)
        y.sum().backward()

    graph = recorded(work)
    assert [node.op for node in graph.nodes].count("CopySlices") >= 2
    assert leaf(graph, "x").grads[0].values == x.grad.tolist() == [[10.0, 30.0], [2.0, 6.0], [2.0, 6.0]]


DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (40, 7)])
def test_each_dtype_and_shape_has_the_gradient_of_its_leaf(dtype, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    graph = recorded(lambda: (x * x).abs().sum().backward())
    found = leaf(graph, "x").grads[0]
    assert (found.shape, found.dtype) == (shape, str(dtype).removeprefix("torch."))
    wide = x.grad.to(torch.complex128 if dtype.is_complex else torch.float64)
    assert found.norm == pytest.approx(wide.norm().item(), rel=1e-4)


def test_sparse_gradients_of_an_embedding_are_told_with_their_numbers():
    table = nn.Embedding(50, 4, sparse=True)
    graph = recorded(lambda: table(torch.tensor([1, 1, 7])).sum().backward())
    found = leaf(graph, "table.weight").grads[0]
    dense = table.weight.grad.to_dense()
    assert found.note.startswith("sparse coo")
    assert found.norm == pytest.approx(dense.norm().item())
    assert found.zeros == pytest.approx((dense == 0).double().mean().item())


@pytest.mark.filterwarnings("ignore")
def test_nested_tensors_are_never_an_exception():
    for layout in (torch.jagged, torch.strided):
        x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout, requires_grad=True)
        graph = recorded(lambda x=x: torch.nested.to_padded_tensor(x * 2, 0.0).sum().backward())
        assert leaf(graph, "x").grads[0].note


class Tagged(torch.Tensor):
    """A subclass that goes through all operations."""


class Half(nn.Parameter):
    """A parameter of the user's own class."""


def test_subclasses_of_tensor_are_recorded_and_stay_what_they_are():
    x, p = torch.ones(3).as_subclass(Tagged).requires_grad_(), Half(torch.ones(3))
    graph = recorded(lambda: (x * p * 2).sum().backward())
    assert type(x.grad) is Tagged or type(x.grad) is torch.Tensor
    assert {node.name for node in graph.nodes if node.kind == "leaf"} == {"x", "p"}
    for node in graph.nodes:
        assert all(stats is None or stats.norm is not None or stats.note for stats in node.grads)


@pytest.mark.filterwarnings("ignore")
def test_dtensors_are_recorded(tmp_path):
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("no torch.distributed")
    from torch.distributed.tensor import DTensor, init_device_mesh  # noqa: PLC0415

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        x = DTensor.from_local(torch.ones(4, 3), mesh).requires_grad_()
        graph = recorded(lambda: (x * 2).sum().backward())
        assert x.grad.to_local().tolist() == [[2.0] * 3] * 4
        assert leaf(graph, "x").grads[0].shape == (4, 3)
    finally:
        distributed.destroy_process_group()


def test_parameters_whose_memory_was_freed_are_recorded_without_numbers():
    x, w = torch.ones(200, requires_grad=True), torch.ones(200, requires_grad=True)

    def work():
        y = (x + w).sum()
        w.data.untyped_storage().resize_(0)
        y.backward()

    found = leaf(recorded(work), "w")
    assert found.values[0].norm is None
    assert found.grads[0].norm == pytest.approx(200**0.5)


def test_gradients_that_share_memory_with_what_is_changed_later_are_told_as_they_were():
    x = torch.ones(300, requires_grad=True)

    def work():
        y = x * 2
        y.register_hook(lambda g: g.mul_(7) if False else g.clone().mul_(7))
        loss = y.view(30, 10).t().reshape(-1).sum()
        loss.backward()
        x.grad.zero_()

    assert leaf(recorded(work), "x").grads[0].max == 14


def test_a_float_that_is_not_a_number_is_told_apart_from_none_and_zero():
    x = torch.zeros(3, requires_grad=True)
    y = torch.ones(3, requires_grad=True)
    graph = recorded(lambda: (x.sqrt() * 0 + y.detach() * 0 + y * 0).sum().backward())
    assert (leaf(graph, "x").grads[0].nan, leaf(graph, "x").grads[0].norm) == (3, None)
    assert (leaf(graph, "y").grads[0].zeros, leaf(graph, "y").grads[0].nan) == (1.0, 0)


def test_amp_with_a_scaler_shows_the_scaled_gradients():
    torch.manual_seed(0)
    model, scaler = nn.Linear(20, 1), torch.amp.GradScaler("cpu", init_scale=512.0)

    def work():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.mse_loss(model(torch.ones(4, 20)).float(), torch.zeros(4, 1))
        scaler.scale(loss).backward()

    graph = recorded(work)
    assert leaf(graph, "model.weight").grads[0].norm == pytest.approx(model.weight.grad.norm().item(), rel=1e-5)
    assert next(node for node in graph.nodes if node.op == "MulBackward0").grads[0].values == 1.0


@pytest.mark.filterwarnings("ignore:.*CSR.*")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_a_sparse_tensor_that_is_saved_counts_what_it_stores(layout):
    matrix = torch.eye(5).to_sparse(layout=layout)
    x = torch.ones(5, 2, requires_grad=True)
    graph = recorded(lambda: (matrix @ x).sum().backward())
    stored = next(tensor for node in graph.nodes for tensor in node.saved if tensor.shape == (5, 5))
    indices = 2 * 5 if layout is torch.sparse_coo else 5 + 6
    assert stored.bytes == 5 * 4 + indices * 8
    assert leaf(graph, "x").grads[0].norm == pytest.approx(x.grad.norm().item())
