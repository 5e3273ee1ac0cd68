"""Tensors that claim to be plain and have no readable memory: a wrong read ends the process."""

import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gradtrace.model import TensorStats
from gradtrace.recording.stats.measure import measure, measure_in_python
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats
from gradtrace.tracefile import load

SENT = """
import torch
class Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, sent):
        ctx.sent = sent
        return x * 1
    @staticmethod
    def backward(ctx, grad):
        return ctx.sent(), None
def pass_on(sent, size):
    x = torch.ones(size, requires_grad=True)
    Passes.apply(x, sent).sum().backward()
    print(x.grad.norm().item(), flush=True)
zeros = torch._efficientzerotensor
a = torch.ones(2, 2, requires_grad=True)
torch.sgn(torch.stack([a, a])).sum().backward()
print(a.grad.norm().item(), flush=True)
pass_on(lambda: zeros((4,)), 4)
pass_on(lambda: zeros((3, 4))[1], 4)
pass_on(lambda: zeros((3, 4096))[2], 4096)
pass_on(lambda: zeros((4096, 3))[:, 1], 4096)
pass_on(lambda: zeros((3, 5))[:, 1], 3)
pass_on(lambda: zeros((1,)).expand(40), 40)
pass_on(lambda: zeros((3, 64))[1].half(), 64)
"""


@pytest.mark.parametrize("native", ["0", "1"])
def test_the_zeros_of_autograd_are_measured_as_zeros_though_they_have_no_memory(native, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADTRACE_NATIVE", native)
    (tmp_path / "script.py").write_text(SENT)
    command = [sys.executable, "-m", "gradtrace", "record", "-o", "out.json", "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done
    assert done.stdout == "0.0\n" * 8
    passes = load(tmp_path / "out.json").passes
    leaves = [node.grads[0] for graph in passes for node in graph.nodes if node.kind == "leaf"]
    assert [(found.norm, found.zeros) for found in leaves] == [(0.0, 1.0)] * 8


class Wrapper(torch.Tensor):
    """A tensor of a class of its own around a tensor, which has no memory itself."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError(f"{func} was called, which the script did not")


def resized(size, count, view=lambda tensor: tensor):
    """A tensor of so many elements whose storage has room for ``count`` afterwards."""
    tensor = torch.randn(size)
    viewed = view(tensor)
    tensor.untyped_storage().resize_(4 * count)
    return viewed


def batched(tensor):
    """The wrapper that vmap gives a function, kept after it."""
    kept = []
    torch.func.vmap(lambda row: kept.append(row) or row)(tensor)
    return kept[0]


def in_grad(tensor):
    kept = []
    torch.func.grad(lambda each: kept.append(each) or each.sum())(tensor)
    return kept[0]


def fake(size):
    with FakeTensorMode():
        return torch.randn(size)


UNREADABLE = {
    "freed": lambda size: resized(size, 0),
    "freed under a view": lambda size: resized(size, 0, lambda tensor: tensor[1:]),
    "made smaller": lambda size: resized(size, 1),
    "made smaller under a view": lambda size: resized(size, size - 1, lambda tensor: tensor[1:]),
    "made smaller under a transposed view": lambda size: resized(size, size - 1, lambda tensor: tensor.view(1, -1).t()),
    "made smaller under each other element": lambda size: resized(2 * size, size, lambda tensor: tensor[::2]),
    "fake": fake,
    "meta": lambda size: torch.empty(size, device="meta"),
    "functional": lambda size: torch._to_functional_tensor(torch.randn(size)),
    "batched": lambda size: batched(torch.randn(3, size)),
    "in torch.func.grad": lambda size: in_grad(torch.randn(size)),
    "a wrapper": lambda size: Wrapper(torch.randn(size)),
    "in mkldnn's layout": lambda size: torch.randn(size).to_mkldnn(),
}


@pytest.mark.parametrize("size", [3, 300, 30_000])
@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_a_tensor_whose_memory_is_not_there_has_its_kind_and_a_note(make, size):
    for ask in {measure, measure_in_python}:
        kind, found = ask(make(size))
        assert isinstance(found, TensorStats)
        assert found.norm is None
        assert "no numbers" in found.note
        assert kind.dtype == "float32"


READABLE = {
    "lazily negated": lambda size: torch.randn(size, dtype=torch.complex64).conj().imag,
    "a view to the end of its storage": lambda size: torch.randn(2 * size)[size:],
    "each other element to the end": lambda size: torch.randn(2 * size - 1)[::2],
    "in a storage that is larger": lambda size: resized(size, 3 * size),
    "expanded": lambda size: torch.randn(1).expand(size),
    "transposed": lambda size: torch.randn(size, 3).t(),
}


@pytest.mark.parametrize("size", [3, 300, 30_000])
@pytest.mark.parametrize("make", READABLE.values(), ids=READABLE)
def test_a_tensor_whose_memory_is_there_is_measured(make, size):
    tensor = make(size)
    expected = tensor.double().norm().item()
    for ask in {measure, measure_in_python}:
        found = ask(tensor)
        reduce_pending([found])
        assert to_stats(found).norm == pytest.approx(expected, rel=1e-5)
