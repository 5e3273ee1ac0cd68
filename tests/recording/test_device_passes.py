"""Whole passes on the pretend accelerator: what the CPU tells is told there, without a wait, whatever becomes of it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gradtrace.checks import checker as checks
from gradtrace.recording.recorder import Options, Recorder
from gradtrace.recording.stats import device as device_stats
from tests.accelerator import counting

pytestmark = pytest.mark.usefixtures("pretend")


def network(device):
    """Return a small network with its input, the same on each device."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh(), torch.nn.LayerNorm(64), torch.nn.Linear(64, 1))
    return net.to(device), torch.randn(32, 8).to(device)


def step(device):
    net, x = network(device)
    net(x).square().mean().backward()


def second_derivative(device):
    x = torch.linspace(0.1, 1, 20).to(device).requires_grad_()
    for _ in range(30):
        (x * 1.5).sum()
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    g.square().sum().backward()


def reentrant_checkpoint(device):
    net, x = network(device)
    h = (x.requires_grad_() * 2).exp().sin().cos()
    checkpoint(net, h, use_reentrant=True).square().mean().backward()


def other_checkpoint(device):
    net, x = network(device)
    checkpoint(net, x.requires_grad_(), use_reentrant=False).square().mean().backward()


def shared_leaf_and_views(device):
    w = torch.arange(40.0).to(device).requires_grad_()
    a, b = w.view(5, 8).split(4, dim=1)
    (a.t() @ b).sum().backward(retain_graph=True)
    (a * b.flip(0)).exp().mean().backward()


def seeded_and_hooked(device):
    x = torch.ones(30).to(device).requires_grad_()
    y = x * 3
    y.register_hook(lambda g: g * 0)
    y.backward(torch.arange(30.0).to(device))


def partials(device):
    u, v = (torch.tensor(value).to(device).requires_grad_() for value in (2.0, 4.0))
    (u**2 * v + v**3).backward()


def convolution(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(108, 2))
    torch.nn.functional.cross_entropy(
        net.to(device)(torch.randn(4, 1, 8, 8).to(device)), torch.tensor([0, 1, 1, 0]).to(device)
    ).backward()


def infinite_derivative(device):
    x = torch.arange(20.0).to(device).requires_grad_()
    (x.sqrt() * 2).sum().backward()


def overflow(device):
    x = torch.linspace(0, 200, 30).to(device).requires_grad_()
    (x.exp() * 2).mean().backward()


def loop(device):
    net, x = network(device)
    for _ in range(20):
        net.zero_grad()
        net(x).square().mean().backward()


SCRIPTS = [
    step, second_derivative, reentrant_checkpoint, other_checkpoint, shared_leaf_and_views, seeded_and_hooked, partials,
    convolution, infinite_derivative, overflow, loop,
]  # fmt: skip


PASS = ("kind", "parent", "call", "calls", "error")


def trace_of(script, device, **options):
    with Recorder(Options(facts=True, **options)) as recorder:
        script(device)
    return recorder.trace


def near(one, other):
    """Tell whether two TensorStats are the same but for rounding, and their device."""
    if one is None or other is None:
        return one is other
    exact = all(getattr(one, field) == getattr(other, field) for field in ("shape", "dtype", "nan", "inf", "note"))
    close = [
        (a is None) == (b is None) and (a is None or a == pytest.approx(b, rel=1e-4, abs=1e-6))
        for a, b in ((one.norm, other.norm), (one.mean, other.mean), (one.min, other.min), (one.max, other.max))
    ]
    return exact and all(close)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_device_has_the_nodes_lines_names_modules_numbers_and_findings_of_the_cpu(script):
    assert_same_trace(trace_of(script, "cpu"), trace_of(script, "pretend"))


def assert_same_trace(here, there):
    assert len(here.passes) == len(there.passes)
    compared = 0
    for one, other in zip(here.passes, there.passes, strict=True):
        assert [getattr(one, field) for field in PASS] == [getattr(other, field) for field in PASS]
        assert list(map(plain, one.edges)) == list(map(plain, other.edges))
        assert all(near(left.grad, right.grad) for left, right in zip(one.edges, other.edges, strict=True))
        for left, right in zip(one.nodes, other.nodes, strict=True):
            assert told(left) == told(right)
            assert all(map(near, (*left.values, *left.grads), (*right.values, *right.grads))), (left, right)
            compared += len(left.grads)
    assert compared > 2
    series = [[(row.name, row.shape, row.passes, row.reached) for row in trace.series] for trace in (here, there)]
    assert series[0] == series[1]
    findings = [[(f.check, f.severity, f.nodes, f.source) for f in checks.run(trace)] for trace in (here, there)]
    assert findings[0] == findings[1]


def plain(edge):
    return edge.source, edge.target, edge.source_index, edge.target_index


NODE = ("id", "kind", "op", "name", "module", "source", "saved", "attributes", "order", "origin")


def told(node):
    return [getattr(node, field) for field in NODE]


MODES = {
    "everything": {},
    "gradients only": {"forward": False},
    "the last": {"keep": frozenset()},
    "leaves only": {"forward": False, "keep": frozenset({10**9})},
    "one pass in full": {"keep": frozenset({20})},
}


@pytest.mark.parametrize("lag", [0, 3, 60])
@pytest.mark.parametrize("mode", MODES)
def test_no_pass_of_a_loop_waits_and_all_need_the_same_memory(mode, lag, pretend):
    net, x = network("pretend")
    found = []
    with Recorder(Options(**{"facts": "forward" not in MODES[mode], **MODES[mode]})) as recorder:
        for index in range(60):
            with counting() as counts:
                net.zero_grad()
                loss = net(x).square().mean()
                if index == 30:
                    pretend.set("lag", lag)  # so often an event is not yet there when it is asked for
                loss.backward()
            found += counts
        trace = recorder.trace
    assert [counts.waits for counts in found] == [0] * 60
    assert len({counts.allocations for counts in found[-20:]}) <= 2  # where some are sent, nothing is allocated there
    lengths = {"everything": 60, "gradients only": 60, "the last": 1, "leaves only": 0, "one pass in full": 1}
    assert len(trace.passes) == lengths[mode]
    assert all(
        len(row.norms) == 60 and row.norms[0] > 0 and row.norms == pytest.approx([row.norms[0]] * 60)
        for row in trace.series
    )
    if trace.passes and "forward" not in MODES[mode]:
        assert all(node.source for graph in trace.passes for node in graph.nodes if node.kind == "function")
    assert all(node.grads[0].norm is not None for graph in trace.passes for node in graph.nodes if node.kind == "leaf")


def test_a_pass_of_leaves_only_costs_few_launches_however_many_leaves_there_are():
    costs = []
    for width in (2, 20):
        torch.manual_seed(0)
        leaves = [torch.nn.Parameter(torch.randn(30).to("pretend")) for _ in range(width)]

        def run(leaves=leaves):
            for leaf in leaves:
                leaf.grad = None
            with counting() as counts:
                sum((leaf * leaf).sum() for leaf in leaves).backward()
            return counts[0]

        plain = run()
        with Recorder(Options(forward=False, keep=frozenset({10**9}))):
            ours = [run() for _ in range(10)][-1]
        costs.append(ours.launches - plain.launches)
    assert costs[0] == costs[1] <= 3


def test_each_gradient_and_value_of_a_pass_costs_at_most_two_launches():
    step("pretend")
    with counting() as plain:
        step("pretend")
    with Recorder(Options(facts=True)) as recorder, counting() as ours:
        step("pretend")
    [graph] = recorder.trace.passes
    measured = [stats for node in graph.nodes for stats in (*node.values, *node.grads) if stats is not None]
    measured += [edge.grad for edge in graph.edges if edge.grad is not None]
    assert ours[0].launches - plain[0].launches <= 2 * len(measured)
    assert ours[0].waits == plain[0].waits == 0


def test_scalar_ops_need_no_allocation_each():
    def chain(ops):
        x = torch.ones((), device="pretend", requires_grad=True)
        y = x
        for _ in range(ops):
            y = y * 1.0001
        y.backward()

    extra = []
    for ops in (100, 400):
        with counting() as plain:
            chain(ops)
        with Recorder() as recorder, counting() as ours:
            chain(ops)
        assert len(recorder.trace.passes[0].nodes) == ops + 2
        extra.append(ours[0].allocations - plain[0].allocations)
    assert extra[1] <= extra[0] <= 3


def test_gradients_of_the_script_are_the_same_to_the_last_bit():
    grads = []
    for recorder in (None, Recorder(Options(facts=True))):
        net, x = network("pretend")
        with recorder if recorder is not None else torch.enable_grad():
            net(x).square().mean().backward()
        grads.append([parameter.grad.cpu() for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_a_parameter_whose_memory_is_freed_between_forward_and_backward_is_not_read():
    w = torch.nn.Parameter(torch.ones(64, 8, device="pretend"))
    small = torch.nn.Parameter(torch.ones(3, device="pretend"))
    x = torch.randn(3, 8).to("pretend").requires_grad_()
    with Recorder(Options(facts=True)) as recorder:
        y = torch.nn.functional.linear(x, w).sum() + (small * 2).sum()
        sizes = [(p, p.untyped_storage().nbytes()) for p in (w, small)]
        for p, _ in sizes:
            p.untyped_storage().resize_(0)

        def gather(*_):
            for p, size in sizes:
                p.untyped_storage().resize_(size)

        y.grad_fn.register_prehook(gather)
        y.backward()
    leaves = {node.name: node for node in recorder.trace.passes[0].nodes if node.kind == "leaf"}
    assert "no numbers" in leaves["w"].values[0].note
    assert "no numbers" in leaves["small"].values[0].note
    assert leaves["x"].grads[0].norm is not None


@pytest.mark.parametrize("passes", [1, 40])
@pytest.mark.parametrize("keep", [None, frozenset()])
def test_when_the_device_fails_what_was_recorded_stays_and_the_rest_is_told_as_lost(passes, keep, pretend):
    net, x = network("pretend")
    with Recorder(Options(facts=True, keep=keep)) as recorder:
        for _ in range(passes):
            net.zero_grad()
            net(x).square().mean().backward()
        pretend.set("failed", 1)
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            net(x)
        first, again = recorder.trace, recorder.trace
    assert first == again
    assert len(first.passes) == (passes if keep is None else 1)
    last = first.passes[-1].nodes[-1].grads[0]
    assert last.note == "lost: CUDA error: device-side assert triggered"
    assert (last.norm, len(first.passes[-1].nodes)) == (None, len(first.passes[0].nodes))
    if passes == 40 and keep is None:
        assert first.passes[0].nodes[-1].grads[0].norm is not None
    [found] = [finding for finding in checks.run(first) if finding.check == "lost-numbers"]
    assert "CUDA_LAUNCH_BLOCKING=1" in found.hint


def test_when_the_device_fails_in_a_pass_the_scripts_own_error_is_raised_and_kept(pretend):
    net, x = network("pretend")
    with Recorder(Options(facts=True)) as recorder:
        hidden = net(x)
        hidden.register_hook(lambda _: pretend.set("failed", 1))
        loss = hidden.square().mean()
        with pytest.raises(torch.AcceleratorError, match="device-side assert"):
            loss.backward()
    assert recorder.trace.passes[0].error.message.startswith("CUDA error: device-side assert")


def test_a_device_that_hangs_is_waited_for_no_longer_than_patience_lasts(pretend, monkeypatch):
    monkeypatch.setattr(device_stats, "PATIENCE", 0.05)
    with Recorder() as recorder:
        step("pretend")
        pretend.set("hung", 1)
        trace = recorder.trace
    assert trace.passes[0].nodes[-1].grads[0].note == "lost: the device did not answer within 0.05 seconds"


def test_ctrl_c_ends_the_wait_for_a_device_that_hangs_and_the_trace_is_there(pretend, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(device_stats.time, "sleep", interrupt)
    with Recorder() as recorder:
        step("pretend")
        pretend.set("hung", 1)
        with pytest.raises(KeyboardInterrupt):
            _ = recorder.trace
        trace = recorder.trace
    assert trace.passes[0].nodes[-1].grads[0].note == "lost: waiting for the device was interrupted"


def test_a_script_on_two_devices_has_lines_names_and_one_thread():
    a = torch.randn(20).to("pretend:0").requires_grad_()
    b = torch.randn(20).to("pretend:1").requires_grad_()
    with Recorder(Options(facts=True)) as recorder:
        (g,) = torch.autograd.grad(((a**2).to("pretend:1") * b**2).sum(), a, create_graph=True)
        g.sum().backward()
    for graph in recorder.trace.passes:
        assert all(node.source for node in graph.nodes if node.kind == "function")
        assert {node.name for node in graph.nodes if node.kind == "leaf"} == {"a", "b"}
    assert torch._C._is_multithreading_enabled()


def test_the_time_of_a_devices_node_is_not_told_for_it_is_that_of_its_start():
    trace = trace_of(step, "pretend")
    assert {node.seconds for node in trace.passes[0].nodes} == {None}
    assert any(node.seconds is not None for node in trace_of(step, "cpu").passes[0].nodes)


def test_a_default_device_is_recorded_as_any():
    here = trace_of(step, "pretend")
    with torch.device("pretend"):
        there = trace_of(step, "pretend")
    assert [told(node) for node in here.passes[0].nodes] == [told(node) for node in there.passes[0].nodes]
