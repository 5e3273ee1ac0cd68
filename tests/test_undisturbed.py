"""The script runs exactly as it would without us: larger scripts, bit for bit, and nothing left behind."""

from __future__ import annotations

import gc
import importlib
import random
import re
import resource
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

import gradtrace
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.recorder import Options, Recorder
from tests.scripts import assert_same, both, run, write

LARGER = Path(__file__).parent / "larger"


@pytest.mark.parametrize("name", ["trainings", "tools", "replaced"])
def test_a_larger_script_does_the_same_to_the_last_bit(name, tmp_path):
    shutil.copy(LARGER / f"{name}.py", tmp_path)
    plain, traced = both(tmp_path, f"{name}.py", options=("--pass", "all"))
    assert plain.code == 0, plain.stderr
    for done in (plain, traced):  # torch's own profiler writes the time
        done.stderr = re.sub(r"^[A-Z]+:\d{4}-.*\n", "", done.stderr, flags=re.MULTILINE)
        if NATIVE is None:  # then copies of small tensors wait to be reduced together, among those that are alive
            done.stdout = re.sub(r" \d+$", "", done.stdout, flags=re.MULTILINE)
    assert assert_same(plain, traced)


@pytest.mark.slow
def test_a_transformer_from_its_package_trains_to_the_same_bits(tmp_path):
    pytest.importorskip("transformers")
    for name in ("transformer", "trainings"):
        shutil.copy(LARGER / f"{name}.py", tmp_path)
    plain, traced = both(tmp_path, "transformer.py")
    assert plain.code == 0, plain.stderr
    assert b"transformers/models/gpt2/modeling_gpt2.py" in assert_same(plain, traced)


MEMORY = """
    import torch
    from torch import nn
    torch.set_num_threads(1)
    model = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(1500, 1500), nn.Tanh())))
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(1500, 1500)).square().mean().backward()
        optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trainings", "tools", "replaced"])
@pytest.mark.parametrize("command", ["record", "render", "check"])
def test_peak_memory_of_a_larger_script_stays_within_five_percent(name, command, tmp_path):
    shutil.copy(LARGER / f"{name}.py", tmp_path)
    more = {"record": ("--pass", "last", "-o", "out.json"), "render": ("-o", "out.svg"), "check": ()}[command]
    plain, traced = run(tmp_path, f"{name}.py"), run(tmp_path, "-m", "gradtrace", command, *more, f"{name}.py")
    assert plain.peak < traced.peak <= 1.05 * plain.peak


@pytest.mark.slow
def test_peak_memory_stays_within_five_percent(tmp_path, monkeypatch):
    # Each tensor is then given back to the system when it dies; else the peak is a matter of chance, by 10 %.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000000")
    write(tmp_path, script=MEMORY)
    plain = run(tmp_path, "script.py").peak
    for options in (("--pass", "last"), ("--pass", "all")):
        command = ("-m", "gradtrace", "record", *options, "-o", "out.json", "script.py")
        traced = run(tmp_path, *command).peak
        assert traced <= plain * 1.05, (options, traced / plain)


PLACES = [
    "sys", "warnings", "traceback", "threading", "inspect", "torch", "torch.autograd", "torch.autograd.graph",
    "torch.autograd.function", "torch.overrides", "torch.nn.modules.module", "torch.nn.functional",
    "torch._dynamo.eval_frame", "torch.export._trace", "torch.utils.checkpoint", "linecache", "gc", "builtins",
]  # fmt: skip
CLASSES = [torch.Tensor, torch.nn.Module, torch.autograd.Function, threading.Thread, TorchFunctionMode]
CHANGING = {"last_traceback", "last_type", "last_value", "modules", "path_importer_cache", "exc_info", "_"}


def everything():
    """All attributes of all places where ours is put, and the state of torch's thread."""
    owners = [importlib.import_module(name) for name in PLACES] + CLASSES
    found = {
        f"{owner.__name__}.{name}": id(value)
        for owner in owners
        for name, value in vars(owner).items()
        if name not in CHANGING and not name.startswith("__warningregistry") and not isinstance(value, (int, float))
    }
    module = sys.modules["torch.nn.modules.module"]
    hooks = {name: len(value) for name, value in vars(module).items() if name.startswith("_global") and value}
    flags = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch._C._get_tracing_state()
    stacks = torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()
    return found, hooks, flags, stacks, gc.isenabled(), gc.get_threshold()


class Plain(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def use_everything(fail):
    model = torch.nn.Linear(2, 2)
    torch.compile(lambda x: x * 2, backend="eager")(model(torch.ones(2))).sum().backward()
    thread = threading.Thread(target=lambda: model(torch.ones(2)).sum().backward())
    thread.start()
    thread.join()
    if fail:
        raise KeyError(fail)


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_patched_afterwards_even_where_the_block_raises():
    use_everything(False)  # imports whatever is imported once
    with gradtrace.record():
        use_everything(False)
    before, frozen = everything(), gc.get_freeze_count()
    for nested in (False, True):
        with pytest.raises(KeyError), gradtrace.record() as outer:
            with gradtrace.record() as inner:
                use_everything(False)
            use_everything(nested or "fail")
        assert len(inner.trace.passes) == 2
        assert len(outer.trace.passes) == 4
        assert everything() == before
        assert gc.get_freeze_count() <= frozen  # it falls when what an earlier run froze dies


def test_modes_that_the_script_leaves_behind_stay_and_ours_goes():
    mode = Plain()
    with gradtrace.record():
        mode.__enter__()
        torch.ones(2, requires_grad=True).sum().backward()
    assert torch._C._len_torch_function_stack() == 1
    assert torch._C._get_function_stack_at(0) is mode
    mode.__exit__(None, None, None)


def test_the_measurements_are_invisible_to_modes_around_and_inside():
    seen = []

    class Seeing(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))

    class Dispatched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    def work():
        x = torch.ones(3, requires_grad=True)
        (torch.cat([x] * 2000).half().float().cos() * 2).sum().backward()

    def watched():
        with Seeing(), Dispatched():
            work()

    watched()
    expected, seen[:] = list(seen), []
    with gradtrace.record():
        watched()
    assert seen == expected
    seen.clear()
    with Seeing(), Dispatched(), gradtrace.record() as recording:
        work()
    assert seen == expected
    assert [node.grads[0].norm for node in recording.trace.passes[0].nodes if node.kind == "leaf"] == [
        pytest.approx(2000 * 2 * torch.sin(torch.tensor(-1.0)).abs().item() * 3**0.5, rel=1e-2)
    ]


def test_a_tensor_of_its_own_kind_sees_only_what_the_script_does():
    seen = []

    class Seeing(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            seen.append(getattr(func, "__name__", str(func)))
            return super().__torch_function__(func, types, args, kwargs or {})

    def work():
        x = torch.ones(30).as_subclass(Seeing).requires_grad_()
        x.add(1).mul_(2).view(5, 6).split(2)[0].detach().sum()
        (x * 2).sum().backward()
        return x.grad

    work()
    expected, seen[:] = list(seen), []
    with Recorder(Options(facts=True)):
        work()
    assert seen == expected


def test_what_the_script_has_put_over_ours_stays_and_works_afterwards():
    engine, seen = torch.autograd._engine_run_backward, []
    start, bootstrap = torch.ones(2, requires_grad=True), threading.Thread._bootstrap_inner
    try:
        with gradtrace.record() as recording:
            ours, ours_bootstrap = torch.autograd._engine_run_backward, threading.Thread._bootstrap_inner

            def covering(*args, **kwargs):
                seen.append(len(recording.trace.passes))
                return ours(*args, **kwargs)

            torch.autograd._engine_run_backward = covering
            threading.Thread._bootstrap_inner = lambda thread: ours_bootstrap(thread)
            start.sum().backward()
        assert torch.autograd._engine_run_backward is covering
        thread = threading.Thread(target=lambda: start.sum().backward())
        thread.start()
        thread.join()
        assert seen == [0, 1]
        assert len(recording.trace.passes) == 1
        assert start.grad.tolist() == [2.0, 2.0]
    finally:
        torch.autograd._engine_run_backward, threading.Thread._bootstrap_inner = engine, bootstrap


# hypothesis has a callback of its own for the garbage collector, in which a signal may strike, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
def test_a_signal_strikes_the_script_and_never_our_own_work():
    x = torch.ones(30, requires_grad=True)
    layer = torch.nn.Linear(30, 30)
    generator, caught = random.Random(0), 0
    with Recorder(Options(keep=frozenset(), facts=True)) as recorder:
        for _ in range(150):
            before = recorder.count
            try:
                # Again and again, for one that strikes in a callback or a finalizer is lost in plain Python, too.
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + generator.random() / 200, 1)
                while True:
                    layer(x).sum().backward()
            except TimeoutError:
                caught += 1
            assert torch.is_grad_enabled()
            assert gc.isenabled()
            assert recorder.count >= before
        (x * 2).sum().backward()
        (graph,) = recorder.trace.passes
    assert caught == 150
    assert signal.getsignal(signal.SIGALRM) is out_of_time
    assert [node.op for node in graph.nodes] == ["output", "SumBackward0", "MulBackward0", "AccumulateGrad"]


def out_of_time(_number, _frame):
    raise TimeoutError


@pytest.fixture(autouse=True)
def _alarm():
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, out_of_time)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_default_device_or_autocast_of_the_script_changes_no_measurement():
    x = torch.linspace(0.1, 1, 5000, requires_grad=True)
    half = x.detach().half().requires_grad_()
    with gradtrace.record() as recording, torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        (x * x).sum().backward()
        (half * half).sum().backward()
    for graph, leaf in zip(recording.trace.passes, (x, half), strict=True):
        node = next(node for node in graph.nodes if node.kind == "leaf")
        assert node.grads[0].norm == pytest.approx(leaf.grad.double().norm().item(), rel=1e-5)
        assert node.grads[0].zeros == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_shallow_graphs_leave_the_limit_of_the_stack_alone():
    before = resource.getrlimit(resource.RLIMIT_STACK)
    with gradtrace.record():
        torch.ones(2, requires_grad=True).sum().backward()
    assert resource.getrlimit(resource.RLIMIT_STACK) == before
