"""On a GPU: the same numbers as on the CPU, and no waiting for the device during backward."""

from __future__ import annotations

import pytest
import torch

from gradtrace.recording.recorder import Recorder

pytestmark = pytest.mark.cuda


def network(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    return net.to(device), torch.randn(32, 8).to(device)


def recorded(device):
    net, x = network(device)
    loss = net(x).square().mean()
    with Recorder() as recorder:
        loss.backward()
    return recorder.trace.passes[0]


def test_a_gpu_gives_the_numbers_of_the_cpu():
    for here, there in zip(recorded("cpu").nodes, recorded("cuda").nodes, strict=True):
        assert (here.op, here.name) == (there.op, there.name)
        for one, other in zip(here.grads, there.grads, strict=True):
            assert other.device.startswith("cuda")
            assert one.norm == pytest.approx(other.norm, rel=1e-4)
            assert one.mean == pytest.approx(other.mean, rel=1e-3, abs=1e-6)


def test_nothing_in_forward_or_backward_waits_for_the_device():
    net, x = network("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        with Recorder() as recorder:
            net(x).square().mean().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert recorder.trace.passes[0].nodes


def test_an_infinite_gradient_is_counted_on_the_gpu():
    x = torch.zeros(32, device="cuda", requires_grad=True)
    with Recorder() as recorder:
        x.sqrt().sum().backward()
    leaf = recorder.trace.passes[0].nodes[-1]
    assert leaf.grads[0].inf == 32
