"""Backward from several threads at once: each its own pass, with its own lines, names and gradients."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import gradtrace
from gradtrace.recording.recorder import Options, Recorder


def work(number, barrier):
    leaf = torch.full((number + 1,), float(number), requires_grad=True)
    for _ in range(20):
        leaf.grad = None
        loss = (leaf * leaf).sum() * 3
        barrier.wait()
        loss.backward()
    return leaf


@pytest.mark.parametrize("keep", [None, frozenset()])
def test_passes_of_several_threads_at_once_are_each_whole(keep):
    barrier = threading.Barrier(4)
    with Recorder(Options(keep=keep)) as recorder, ThreadPoolExecutor(4) as pool:
        leaves = list(pool.map(work, range(4), [barrier] * 4))
    trace = recorder.trace
    assert recorder.count == 80
    if keep is None:
        assert [graph.index for graph in trace.passes] == list(range(1, 81))
    for graph in trace.passes:
        assert (graph.parent, graph.error) == (None, None)
        assert sorted(node.op for node in graph.nodes) == sorted(
            ["output", "MulBackward0", "SumBackward0", "MulBackward0", "AccumulateGrad"]
        )
        assert all(node.order is not None for node in graph.nodes if node.kind != "output")
        leaf = next(node for node in graph.nodes if node.kind == "leaf")
        number = leaf.values[0].shape[0] - 1
        assert leaf.name == "leaf"
        assert leaf.grads[0].values == leaves[number].grad.tolist() == [6.0 * number] * (number + 1)
        assert {node.source.text for node in graph.nodes if node.op == "SumBackward0"} == {"(leaf * leaf).sum()"}
    assert sum(len(series.passes) for series in trace.series) == 80


def test_a_graph_made_in_one_thread_and_run_in_another_keeps_its_lines():
    x = torch.ones(3, requires_grad=True)
    made = []
    with gradtrace.record() as recording:
        thread = threading.Thread(target=lambda: made.append((x * 2).sin().sum()))
        thread.start()
        thread.join()
        made[0].backward()
    texts = {node.op: node.source.text for node in recording.trace.passes[0].nodes if node.source}
    assert texts["SinBackward0"] == "(x * 2).sin()"


def test_a_thread_that_outlives_the_recording_goes_on_unwatched():
    begin, done, seen = threading.Event(), threading.Event(), []
    x = torch.ones(3, requires_grad=True)

    def late():
        begin.wait()
        (x * 2).sum().backward()
        seen.append(x.grad.tolist())
        done.set()

    with gradtrace.record() as recording:
        thread = threading.Thread(target=late)
        thread.start()
    begin.set()
    assert done.wait(10)
    thread.join()
    assert seen == [[2.0, 2.0, 2.0]]
    assert recording.trace.passes == ()
