"""On a real GPU what the pretend accelerator shows without one, and what it can't: streams, graphs, asserts, memory.

The scripts are those of ``test_device_passes.py``; ``docs/devices.md`` says what was proven where.
"""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from gradtrace.recording.recorder import Options, Recorder
from gradtrace.recording.stats import device_kernel
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.tensor_stats import to_stats
from tests.recording.test_device_passes import MODES, SCRIPTS, assert_same_trace, network, trace_of

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_gpu_has_the_nodes_lines_names_modules_numbers_and_findings_of_the_cpu(script):
    assert_same_trace(trace_of(script, "cpu"), trace_of(script, "cuda"))


def test_the_kernel_is_compiled_here():
    assert device_kernel.kernel_for(torch.device("cuda:0"), torch.bfloat16) is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [17, 1000, 2**20 + 3, 2**24 + 1])
def test_each_dtype_and_size_has_the_numbers_it_has_here(dtype, size):
    torch.manual_seed(0)
    tensor = torch.randn(size).to(dtype)
    tensor[:3] = torch.tensor([float("nan"), float("inf"), 0.0])
    here, there = to_stats(measure(tensor)), to_stats(measure(tensor.cuda()))
    assert (here.nan, here.inf, here.min, here.max) == (there.nan, there.inf, there.min, there.max)
    assert here.zeros == pytest.approx(there.zeros, abs=1e-12)
    assert here.norm == pytest.approx(there.norm, rel=1e-5)
    assert here.mean == pytest.approx(there.mean, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_no_pass_of_a_loop_waits(mode, monkeypatch):
    waited = []
    for module in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(module, "synchronize", lambda *_: waited.append("a device"))
    net, x = network("cuda")
    with Recorder(Options(**{"facts": "forward" not in MODES[mode], **MODES[mode]})) as recorder:
        for index in range(40):
            net.zero_grad()
            if index == 3:  # libraries are loaded by now, which may wait
                torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                net(x).square().mean().backward()
            waited += [str(one.message) for one in told if "synchroniz" in str(one.message)]
        torch.cuda.set_sync_debug_mode("default")
        trace = recorder.trace
    assert waited == []
    assert all(len(row.norms) == 40 and all(norm > 0 for norm in row.norms) for row in trace.series)


def test_gradients_of_the_script_are_the_same_to_the_last_bit():
    grads = []
    for recorder in (None, Recorder(Options(facts=True))):
        net, x = network("cuda")
        with recorder if recorder is not None else torch.enable_grad():
            net(x).square().mean().backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_is_not_finite_is_counted_on_the_gpu(dtype):
    x = torch.zeros(32, device="cuda", dtype=dtype, requires_grad=True)
    with Recorder() as recorder:
        (x.sqrt().sum() + (x * float("nan"))[:2].sum()).backward()
    leaf = recorder.trace.passes[0].nodes[-1]
    assert (leaf.grads[0].inf, leaf.grads[0].nan) == (0, 32)  # the slice sends 0 to the rest, and 0 * NaN is NaN


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


def test_memory_grows_by_no_more_than_the_rows_of_a_stream():
    peaks = []
    for recorder in (None, Recorder(Options(facts=True))):
        torch.cuda.reset_peak_memory_stats()
        net, x = network("cuda")
        with recorder if recorder is not None else torch.enable_grad():
            for _ in range(5):
                net.zero_grad()
                net(x).square().mean().backward()
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[1] - peaks[0] < 2**20


FREED = """
import torch; from gradtrace.recording.recorder import Recorder
w = torch.nn.Parameter(torch.ones(64, 8, device='cuda')); x = torch.randn(3, 8, device='cuda', requires_grad=True)
with Recorder() as r:
    y = torch.nn.functional.linear(x, w).sum(); n = w.untyped_storage().nbytes(); w.untyped_storage().resize_(0)
    y.grad_fn.register_prehook(lambda *_: (w.untyped_storage().resize_(n), None)[1]); y.backward()
torch.cuda.synchronize(); r.trace
"""
ASSERTED = """
import torch; from gradtrace.recording.recorder import Recorder
e = torch.nn.Embedding(4, 32).cuda()
with Recorder() as r:
    e(torch.tensor([1, 2], device='cuda')).sum().backward()
    try: e(torch.tensor([9], device='cuda')).sum().backward(); torch.cuda.synchronize()
    except RuntimeError: pass
assert r.trace.passes and r.trace == r.trace
"""


@pytest.mark.parametrize("script", [FREED, ASSERTED])
def test_the_process_lives(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
