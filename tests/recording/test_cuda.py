"""On a GPU: the same numbers as on the CPU, and no waiting for the device during backward.

Where there is none, ``test_away.py`` walks the same way with tensors of the CPU.
"""

from __future__ import annotations

import pytest
import torch

import gradtrace.recording.stats.device as away
from gradtrace.recording.recorder import Options, Recorder

pytestmark = pytest.mark.cuda


def network(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    return net.to(device), torch.randn(32, 8).to(device)


def recorded(device):
    net, x = network(device)
    with Recorder() as recorder:
        net(x).square().mean().backward()
    return recorder.trace.passes[0]


def test_a_gpu_gives_the_numbers_of_the_cpu():
    compared = 0
    for here, there in zip(recorded("cpu").nodes, recorded("cuda").nodes, strict=True):
        assert (here.op, here.name) == (there.op, there.name)
        for one, other in zip(here.grads, there.grads, strict=True):
            if one is None:  # the seed of the output
                assert other is None
                continue
            assert other.device.startswith("cuda")
            assert one.norm == pytest.approx(other.norm, rel=1e-3)
            assert one.mean == pytest.approx(other.mean, rel=1e-2, abs=1e-5)
            compared += 1
    assert compared >= 8


@pytest.mark.parametrize("keep", [None, frozenset(), frozenset({9})])
def test_nothing_in_forward_or_backward_waits_for_the_device(keep):
    net, x = network("cuda")
    net(x).square().mean().backward()  # libraries are loaded, which may wait
    torch.cuda.synchronize()
    with Recorder(Options(keep=keep, facts=True)) as recorder:
        torch.cuda.set_sync_debug_mode("error")
        try:
            net(x).square().mean().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        trace = recorder.trace
    assert {row.name for row in trace.series} == {f"net.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    assert all(row.norms[0] > 0 for row in trace.series)


def test_all_numbers_come_over_in_one_batch(monkeypatch):
    fetched = []
    original = away._fetch
    monkeypatch.setattr(away, "_fetch", lambda same: fetched.append(len(same)) or original(same))
    recorded("cuda")
    assert len(fetched) == 1


def test_gradients_of_the_script_are_the_same_to_the_last_bit():
    grads = []
    for recorder in (None, Recorder()):
        net, x = network("cuda")
        if recorder is None:
            net(x).square().mean().backward()
        else:
            with recorder:
                net(x).square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_counted_on_the_gpu(dtype):
    x = torch.zeros(32, device="cuda", dtype=dtype, requires_grad=True)
    with Recorder() as recorder:
        (x.sqrt().sum() + (x * float("nan"))[:2].sum()).backward()
    leaf = recorder.trace.passes[0].nodes[-1]
    assert (leaf.grads[0].inf, leaf.grads[0].nan) == (30, 2)


def test_other_streams_and_graphs_are_recorded_or_left_alone():
    net, x = network("cuda")
    with Recorder() as recorder:
        with torch.cuda.stream(torch.cuda.Stream()):
            net(x).square().mean().backward()
        torch.cuda.synchronize()
        graphed = torch.cuda.make_graphed_callables(net, (x.clone().requires_grad_(),))
        graphed(x.clone().requires_grad_()).sum().backward()
    first = recorder.trace.passes[0]
    assert all(node.grads[0].norm is not None for node in first.nodes if node.kind == "leaf")
