"""Random healthy programs have no findings; a fault put into one is found where it was put."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from gradtrace.checks.checker import run
from gradtrace.checks.trace_diff import Tolerance, compare
from gradtrace.recording.recorder import Options, Recorder
from tests.recording.test_oracle import build, programs
from tests.sweeps import sweep


def recorded(program, spoil=None):
    """The trace of a random program, whose loss ``spoil`` may change before the backward."""
    with Recorder(Options(facts=True)) as recorder:
        _, tensors, loss = build(*program)
        (loss if spoil is None else spoil(tensors, loss)).backward()
    return recorder.trace


@sweep(18, 60, programs())
def test_a_random_healthy_program_has_no_findings(program):
    assert run(recorded(program)) == ()


@sweep(12, 40, programs(), st.integers(0, 50))
def test_a_masked_root_of_zero_put_anywhere_is_found_there(program, at):
    def spoil(tensors, loss):
        x = tensors[at % len(tensors)]
        zero = (x - x.detach()).double()
        return loss + torch.where(zero > 0, torch.sqrt(zero), zero).sum()

    births = [f for f in run(recorded(program, spoil)) if f.check == "nonfinite-origin"]
    assert [f.source.text for f in births] == ["torch.sqrt(zero)"]


@sweep(12, 40, programs(), st.integers(0, 50), st.sampled_from([0.0, 0.5, 2.0, -1.0]))
def test_a_hook_put_anywhere_is_found_there(program, at, factor):
    def spoil(tensors, loss):
        x = tensors[at % len(tensors)] * 1.0
        x.register_hook(lambda grad: grad * factor)
        return loss + x.double().sum()

    found = [f for f in run(recorded(program, spoil)) if f.check == "hook-changed"]
    assert [f.source.text for f in found] == ["tensors[at % len(tensors)] * 1.0"]


@sweep(9, 30, programs())
def test_two_runs_of_one_program_do_not_differ(program):
    found = compare(recorded(program), recorded(program), Tolerance(0.0, 0.0))
    assert not found.differs
    assert found.reasons == ()
