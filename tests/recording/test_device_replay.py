"""Formulas and finite differences of what ran on a device: its calls run again on the CPU, in float64."""

from __future__ import annotations

import pytest
import torch

from gradtrace.recording.recorder import LAST, Options
from gradtrace.recording.replay.taped_recorder import TapedRecorder
from tests.accelerator import counting

pytestmark = pytest.mark.usefixtures("pretend")


def compared(script, device):
    with TapedRecorder(Options(calls=True, numeric=True, facts=True)) as recorder:
        script(device)
    return recorder.trace.passes[-1]


def partials(device):
    u, v = (torch.tensor(value).to(device).requires_grad_() for value in (2.0, 4.0))
    (u**2 * v + v**3).backward()


def network(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)).to(device)
    x = torch.randn(4, 3).to(device)
    scale = torch.full((4, 1), 2.0, device=device)
    (net(x) * scale).square().mean().backward()


class Wrong(torch.autograd.Function):
    """Twice its input, with the derivative of three times."""

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


def wrong(device):
    Wrong.apply(torch.ones(5).to(device).requires_grad_()).sum().backward()


def moving(device):
    x = torch.arange(6.0, requires_grad=True)
    (x.to(device) * 2).double().to("cpu").sin().sum().backward()


@pytest.mark.parametrize("script", [partials, network, wrong], ids=lambda script: script.__name__)
def test_comparisons_calls_and_kept_values_are_those_of_the_cpu(script):
    here, there = compared(script, "cpu"), compared(script, "pretend")
    assert len(here.comparisons) == len(there.comparisons) > 0
    for one, other in zip(here.comparisons, there.comparisons, strict=True):
        assert (one.node, one.of, one.agrees, one.note) == (other.node, other.of, other.agrees, other.note)
        assert (one.error is None) == (other.error is None)
        assert one.error is None or one.error == pytest.approx(other.error, abs=1e-5)
    assert any(not one.agrees for one in there.comparisons) == (script is wrong)
    kept = [{(one.node, one.output, len(one.value)) for one in graph.held if one.node} for graph in (here, there)]
    assert kept[0] == kept[1]


def test_a_tensor_on_its_way_between_devices_is_compared_too():
    graph = compared(moving, "pretend")
    assert len(graph.comparisons) == 7
    assert all(one.agrees for one in graph.comparisons)


def test_what_a_devices_own_generator_made_is_known_to_be_random():
    def dropped(device):
        torch.nn.functional.dropout(torch.ones(40).to(device).requires_grad_() * 2).sum().backward()

    notes = [{one.note for one in compared(dropped, device).comparisons} for device in ("cpu", "pretend")]
    assert notes[0] == notes[1]
    assert any("random" in note for note in notes[1])


def test_copies_are_made_on_the_device_and_wait_for_nothing(pretend):
    network("pretend")
    with TapedRecorder(Options(calls=True, numeric=True, keep=LAST)) as recorder, counting() as counts:
        network("pretend")
    assert counts[0].waits == 0
    assert recorder.trace.passes[0].comparisons


def test_copies_that_a_failed_device_has_lost_are_not_compared(pretend):
    with TapedRecorder(Options(calls=True, numeric=True)) as recorder:
        network("pretend")
    pretend.set("failed", 1)
    [graph] = recorder.trace.passes
    assert {one.agrees for one in graph.comparisons} <= {None}
    assert all(node.source for node in graph.nodes if node.kind == "function")
