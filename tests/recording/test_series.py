"""Many passes: what is kept, the series of each leaf against the script's own gradients, bounded memory."""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from gradtrace.recording.recorder import Options, Recorder


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
