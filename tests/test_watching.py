"""Steps of a training loop that are watched: which they are, what is saved and said, and that nothing is disturbed."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import gradtrace
from gradtrace.errors import FindingError, OutputError
from gradtrace.watching import GradientWarning


def train(watch, steps=12, *, broken=()):
    """Train a small net; return its parameters and random state in the end, and which steps were watched."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watched = []
    for number in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        if number in broken:
            loss = (loss * 0).sqrt()
        loss.backward()
        if number not in broken:
            optimizer.step()
        if watch is not None and watch.step() is not None:
            watched.append(number)
    return [parameter.detach().clone() for parameter in model.parameters()], torch.get_rng_state(), watched


def test_the_steps_that_are_asked_for_are_watched():
    with gradtrace.watch(every=5, also=(1, 2)) as watch:
        assert train(watch)[2] == [1, 2, 5, 10]
    assert watch.trace.command == ("step 10",)


def test_a_step_left_unended_is_watched_too():
    with gradtrace.watch(every=0, also=(1,)) as watch:
        torch.ones(1, requires_grad=True).sum().backward()
    assert len(watch.trace.passes) == 1


def test_the_training_ends_with_the_same_parameters_to_the_bit():
    with gradtrace.watch(every=2) as watch:
        watched = train(watch)
    plain = train(None)
    assert all(torch.equal(one, other) for one, other in zip(watched[0], plain[0], strict=True))
    assert torch.equal(watched[1], plain[1])


def test_between_the_watched_steps_nothing_of_gradtrace_is_there():
    original = torch.autograd._engine_run_backward
    with gradtrace.watch(every=0, also=(2,)) as watch:
        assert torch.autograd._engine_run_backward is original
        watch.step()
        assert torch.autograd._engine_run_backward is not original
        watch.step()
        assert torch.autograd._engine_run_backward is original


def test_the_gradients_of_a_watched_step_are_those_of_its_leaves():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    with gradtrace.watch(also=(1,)) as watch:
        (x * 2).sum().backward()
        trace = watch.step()
    leaf = next(node for node in trace.passes[0].nodes if node.kind == "leaf")
    assert (leaf.name, leaf.grads[0].values) == ("x", [2.0, 2.0])


def test_each_watched_step_is_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with gradtrace.watch(every=5, out=tmp_path / "rank{rank}" / "{step}.json.gz") as watch:
        train(watch)
    assert sorted(path.name for path in (tmp_path / "rank3").iterdir()) == [
        "1.json.gz",
        "10.json.gz",
        "2.json.gz",
        "5.json.gz",
    ]
    assert len(gradtrace.load(tmp_path / "rank3" / "5.json.gz").passes) == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="can't make the folder"),
        gradtrace.watch(out=tmp_path / "file" / "{step}.json") as w,
    ):
        train(w)


def test_a_finding_is_a_warning_on_the_line_of_the_step():
    with pytest.warns(GradientWarning, match=r"step 2: .*nonfinite") as caught, gradtrace.watch(every=1) as watch:
        train(watch, 3, broken={2})
    assert [warning.filename for warning in caught] == [__file__]


def test_a_finding_ends_the_training_on_request():
    with pytest.raises(FindingError, match="step 2: "), gradtrace.watch(every=1, on_finding="raise") as watch:
        train(watch, 5, broken={2})
    assert torch.autograd._engine_run_backward.__module__.startswith("torch.")


def test_findings_are_handed_to_a_function():
    seen = []
    with gradtrace.watch(
        every=1, on_finding=lambda findings, trace: seen.append((findings[0].check, trace.command))
    ) as w:
        train(w, 3, broken={2})
    assert [command for _, command in seen] == [("step 2",)]


def test_nothing_is_said_on_request():
    with warnings.catch_warnings(), gradtrace.watch(every=1, on_finding="ignore") as watch:
        warnings.simplefilter("error")
        train(watch, 3, broken={2})


def test_an_error_of_the_training_comes_through_as_it_is():
    with pytest.raises(ZeroDivisionError), gradtrace.watch(every=1, on_finding="raise"):
        (torch.zeros(1, requires_grad=True).sqrt() * 0).backward()
        raise ZeroDivisionError


@pytest.mark.parametrize("wrong", [{"every": -1}, {"on_finding": "shout"}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        gradtrace.watch(**wrong)
