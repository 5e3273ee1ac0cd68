"""Many passes: what is kept, the series of each leaf against the script's own gradients, bounded memory."""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from gradtrace import tracefile
from gradtrace.recording.recorder import Options, Recorder
from tests.scripts import run, write


def loop(steps, keep):
    """Train for so many steps; return the recorder and the norms that the script itself sees."""
    torch.manual_seed(0)
    model, unused = torch.nn.Linear(3, 1), torch.ones(2, requires_grad=True)
    optimizer, seen = torch.optim.SGD(model.parameters(), 0.01), []
    with Recorder(Options(keep=keep)) as recorder:
        for step in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(5, 3)).square().mean()
            if step % 3 == 0:
                loss = loss + (unused * float("inf") if step == 6 else unused).sum()
            loss.backward()
            optimizer.step()
            seen.append((model.weight.grad.norm().item(), step % 3 == 0))
    return recorder, seen


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(frozenset(), [50]), (None, list(range(1, 51))), (frozenset({1}), [1]), (frozenset({10, 40, 99}), [10, 40])],
)
def test_the_passes_asked_for_are_kept_and_the_series_has_all(keep, kept):
    recorder, seen = loop(50, keep)
    trace = recorder.trace
    assert recorder.count == 50
    assert [graph.index for graph in trace.passes] == kept
    series = {row.name: row for row in trace.series}
    weight, unused = series["model.weight"], series["unused"]
    assert weight.passes == list(range(1, 51))
    assert weight.norms == pytest.approx([norm for norm, _ in seen], rel=1e-5)
    assert weight.reached == [True] * 50
    assert unused.passes == [step + 1 for step, (_, used) in enumerate(seen) if used]
    assert unused.norms[:3] == [pytest.approx(2**0.5), pytest.approx(2**0.5), None]
    assert unused.reached == [True] * len(unused.passes)


def test_a_leaf_that_the_pass_does_not_ask_for_is_not_reached():
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with Recorder(Options(keep=frozenset())) as recorder:
        torch.autograd.grad((x * y).sum(), x)
    series = {row.name: row for row in recorder.trace.series}
    assert (series["x"].reached, series["x"].norms) == ([True], [pytest.approx(2**0.5)])
    assert (series["y"].reached, series["y"].norms) == ([False], [None])


def size_of(recorder):
    """All that the recorder holds, in objects."""
    seen, queue, total = set(), [recorder], 0
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, (type, type(sys))) or callable(thing):
            continue
        seen.add(id(thing))
        total += sys.getsizeof(thing)
        queue += gc.get_referents(thing)
    return total


def test_a_long_loop_that_never_calls_backward_runs_in_bounded_memory():
    x = torch.ones(3, requires_grad=True)
    layer = torch.nn.Identity()
    with Recorder(Options(keep=frozenset())) as recorder:
        (x * 3).sum().backward()
        kept = x.sin()
        for _ in range(100_000):
            layer(x * 2)
        with torch.no_grad():
            for _ in range(1000):
                layer(x)
        log = recorder._logs.here()
        assert len(log.calls) < 70_000
        assert len(log.modules._marks) < 140_000
        last = recorder.trace.passes[0]
        kept.sum().backward()
    texts = {node.op: node.source.text for node in (*last.nodes, *recorder.trace.passes[0].nodes) if node.source}
    assert texts == {
        "MulBackward0": "x * 3", "SumBackward0": "kept.sum()", "SinBackward0": "x.sin()",
    }  # fmt: skip


LOOP = """
    import os, torch

    def memory():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    batch = torch.randn(16, 4)
    for step in range(1, 30_001):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        if step in (3_000, 30_000):
            print(memory())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize("chosen", ["last", "10,20000"])
def test_thirty_thousand_passes_run_in_flat_memory(chosen, tmp_path):
    write(tmp_path, loop=LOOP)
    done = run(tmp_path, "-m", "gradtrace", "record", "--pass", chosen, "-o", "out.json.gz", "loop.py")
    assert done.code == 0, done.stderr[-500:]
    early, late = map(int, done.stdout.split())
    # A row of each of four leaves takes 17 bytes.
    assert late - early < 10_000_000, (early, late)
    (tmp_path / "out.json.gz").write_bytes(done.files["out.json.gz"])
    trace = tracefile.load(str(tmp_path / "out.json.gz"))
    assert [graph.index for graph in trace.passes] == {"last": [30_000], "10,20000": [10, 20_000]}[chosen]
    assert all(row.passes == list(range(1, 30_001)) and all(row.reached) for row in trace.series)
    assert len(trace.series) == 4


@pytest.mark.parametrize("keep", [frozenset(), frozenset({1})])
def test_a_long_loop_runs_in_bounded_memory(keep):
    def after(steps):
        torch.manual_seed(0)
        x = torch.ones(3, requires_grad=True)
        with Recorder(Options(keep=keep)) as recorder:
            for _ in range(steps):
                (x.sin() * x.exp()).sum().backward()
            return size_of(recorder)

    short, long = after(3000), after(9000)
    # A row is an index, a norm and a byte.
    assert long - short < 6000 * 40
