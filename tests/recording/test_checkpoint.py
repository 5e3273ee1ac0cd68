"""Checkpoints: the forward runs as often as without us, and saved tensors are told without unpacking."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from gradtrace.recording.recorder import Recorder


def run(reentrant, watching):
    calls = []

    def forward(x):
        calls.append(torch.is_grad_enabled())
        return torch.nn.functional.dropout(x.sin(), 0.5).cos()

    torch.manual_seed(3)
    x = torch.linspace(0, 1, 40).requires_grad_()
    with watching:
        for _ in range(3):
            y = checkpoint(forward, checkpoint(forward, x * 1, use_reentrant=reentrant), use_reentrant=reentrant)
            y.sum().backward()
    return calls, x.grad


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_runs_its_forward_as_often_as_without_us(reentrant):
    calls, gradient = run(reentrant, contextlib.nullcontext())
    recorder = Recorder()
    watched, found = run(reentrant, recorder)
    assert watched == calls
    assert torch.equal(found, gradient)
    passes = recorder.trace.passes
    if reentrant:
        assert [graph.parent for graph in passes] == [None, 1, 1, None, 4, 4, None, 7, 7]
        assert {node.op for node in passes[0].nodes} >= {"CheckpointFunctionBackward", "SumBackward0"}
        assert all({"SinBackward0", "CosBackward0"} <= {node.op for node in passes[at].nodes} for at in (1, 2))
    else:
        assert [graph.parent for graph in passes] == [None, None, None]
        assert {"SinBackward0", "CosBackward0"} <= {node.op for node in passes[0].nodes}


def test_saved_tensors_are_told_without_running_the_script_s_hooks():
    x, seen = torch.ones(4, 5, requires_grad=True), []

    def pack(tensor):
        seen.append("pack")
        return tensor

    def unpack(tensor):
        seen.append("unpack")
        return tensor

    with Recorder() as recorder:
        with saved_tensors_hooks(pack, unpack):
            y = (x.exp() * x**2).sum(dim=1)
        y.sum().backward()
    # exp keeps its result, mul both its inputs, pow its base: each packed once and unpacked once.
    assert seen == ["pack"] * 4 + ["unpack"] * 4
    del recorder


def test_shapes_dtypes_bytes_and_attributes_are_those_of_what_the_node_keeps():
    x = torch.ones(4, 5, dtype=torch.float64, requires_grad=True)
    with Recorder() as recorder:
        torch.add(x**2, x, alpha=3).sum(dim=1).sum().backward()
    nodes = {node.op: node for node in recorder.trace.passes[0].nodes}
    (saved,) = nodes["PowBackward0"].saved
    assert (saved.name, saved.shape, saved.dtype, saved.bytes) == ("self", (4, 5), "float64", 4 * 5 * 8)
    assert nodes["PowBackward0"].attributes == {"exponent": 2}
    assert nodes["AddBackward0"].attributes == {"alpha": 3}
    assert nodes["SumBackward1"].attributes["dim"] in (1, [1])


def test_each_of_many_nested_passes_knows_the_pass_around_it():
    x = torch.ones(3, requires_grad=True)
    with Recorder() as recorder:
        y = x * 1
        for _ in range(40):
            y = checkpoint(torch.sin, y, use_reentrant=True)
        y.sum().backward()
        (x * 2).sum().backward()
    assert [graph.parent for graph in recorder.trace.passes] == [None, *[1] * 40, None]
