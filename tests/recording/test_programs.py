"""Random programs in children: recorded, they do what they do alone, and each number is what hooks see."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from msgspec.structs import replace

from gradtrace.recording.recorder import Recorder
from tests.programs_recorded import Oracle, differences, same
from tests.scripts import ROOT


def test_random_programs_are_undisturbed_and_recorded_as_hooks_see_them(tmp_path, counted):
    counted(**tried(tmp_path / "results", 0, 50))


@pytest.mark.slow
@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize("first", [0, *range(10_000, 20_000, 1000)])
def test_ten_thousand_random_programs_are_too(first, native, tmp_path, counted, monkeypatch):
    monkeypatch.setenv("GRADTRACE_NATIVE", native)
    counted(**tried(tmp_path / "results", first, 1000))


def test_a_number_that_is_not_what_hooks_saw_is_noticed():
    x = torch.rand(3, requires_grad=True)
    oracle = Oracle()
    with oracle.watching():
        x.sin().sum().backward()
    with Recorder() as recorder:
        x.sin().sum().backward()
    (graph,), (seen,) = recorder.trace.passes, oracle.passes
    assert list(differences(graph, seen)) == []
    edges = [replace(edge, grad=replace(edge.grad, norm=9.0)) for edge in graph.edges]
    assert list(differences(replace(graph, edges=tuple(edges)), seen))
    assert list(differences(replace(graph, nodes=graph.nodes[:-1]), seen))
    assert same(x.grad, x.grad.clone())
    assert not same(x.grad, x.grad + 1e-6)


def tried(results, first, count):
    """Try programs in a child, and return how much was compared; the seed of one that fails is in the message."""
    command = [sys.executable, "-m", "tests.programs_recorded", results, str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []
    assert done.returncode == 0, (rows[-1:], done.stderr[-3000:])
    finished = [row for row in rows if "seed" in row]
    assert len(finished) == count
    assert [row for row in finished if row["wrong"]] == []
    nodes, edges = (sum(row[what] for row in finished) for what in ("nodes", "edges"))
    assert nodes > 20 * count
    return {"programs": count, "nodes": nodes, "edges": edges}
