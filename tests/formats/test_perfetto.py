"""Trace events of a recorded run, held to the Trace Event Format and to the trace."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
import torch
from msgspec.structs import replace

import gradtrace
from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import Report
from tests.builders import partials, trace
from tests.hostile import HOSTILE, trace_of


class Block(torch.nn.Module):
    """A module in which another one is called."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(x).tanh()


@pytest.fixture(scope="module")
def recorded():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), Block(), torch.nn.Linear(3, 1))
    with gradtrace.record() as recording:
        for _ in range(3):
            net(torch.ones(4, 3)).sum().backward()
    return recording.trace


def events(whole):
    found = json.loads(
        FORMATS["perfetto"].function(Report(whole, whole.passes[0]), Style()), parse_constant=pytest.fail
    )
    return found["traceEvents"]


def assert_well_formed(found):
    """Each event has the fields of its phase; on a thread, slices lie in each other or apart, outer ones first."""
    threads = defaultdict(list)
    for event in found:
        assert event["ph"] in {"X", "M"}
        assert event.keys() >= {"name", "pid", "tid", "args"}
        if event["ph"] == "X":
            assert event["dur"] >= 0
            threads[event["pid"], event["tid"]].append((round(event["ts"] * 1000), round(event["dur"] * 1000)))
    for slices in threads.values():
        open_ends = []
        for begin, length in sorted(slices, key=lambda each: (each[0], -each[1])):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or begin + length <= open_ends[-1]
            open_ends.append(begin + length)


def test_nodes_have_their_times_within_their_pass(recorded):
    found = events(recorded)
    assert_well_formed(found)
    for graph in recorded.passes:
        (whole,) = [event for event in found if event["args"].get("pass") == graph.index]
        inside = [e for e in found if "node" in e["args"] and whole["ts"] <= e["ts"] < whole["ts"] + whole["dur"]]
        timed = {node.id: node.seconds for node in graph.nodes if node.order is not None and node.seconds is not None}
        assert timed
        assert {event["args"]["node"]: event["dur"] for event in inside} == {
            name: pytest.approx(seconds * 1e6, abs=1e-3) for name, seconds in timed.items()
        }
        assert [e["args"]["order"] for e in sorted(inside, key=lambda e: e["ts"])] == sorted(
            node.order for node in graph.nodes if node.id in timed
        )


def test_a_pass_begins_when_it_did(recorded):
    (rows,) = recorded.pass_series
    found = [event["ts"] for event in events(recorded) if "pass" in event["args"]]
    assert found == [pytest.approx(seconds * 1e6, rel=0.05) for seconds in rows.seconds]


def test_a_node_lies_in_its_modules(recorded):
    found = events(recorded)
    modules = {node.id: node.module for node in recorded.passes[0].nodes if node.module}
    assert any("." in module for module in modules.values())
    for node in (event for event in found if event["args"].get("node") in modules):
        around = [
            event["name"]
            for event in found
            if event["ph"] == "X" and not event["args"]
            and event["ts"] <= node["ts"] and node["ts"] + node["dur"] <= event["ts"] + event["dur"] + 1e-6
        ]  # fmt: skip
        assert modules[node["args"]["node"]] in around


def test_a_node_whose_time_is_unknown_is_counted_and_has_no_slice():
    found = [event for event in events(trace(partials())) if event["ph"] == "X"]
    assert [(event["name"], event["args"]["nodes without a time"]) for event in found] == [("backward 1", 7)]


def test_ranks_are_processes_and_a_pass_inside_another_has_its_own_row():
    timed = replace(partials(), nodes=tuple(replace(node, seconds=0.25) for node in partials().nodes), seconds=3.0)
    inner, other = replace(timed, index=2, parent=1), replace(timed, rank=1)
    found = events(trace(timed, inner, other))
    assert_well_formed(found)
    whole = [(e["pid"], e["tid"], e["dur"]) for e in found if "pass" in e["args"]]
    assert whole == [(0, 0, 3e6), (0, 1, 3e6), (1, 0, 3e6)]
    assert [e["args"]["name"] for e in found if e["ph"] == "M"] == ["rank 0", "rank 1"]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_any_text_can_be_read(text):
    found = events(trace_of(text))
    assert_well_formed(found)
    json.dumps(found, ensure_ascii=False).encode()
