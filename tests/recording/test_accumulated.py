"""What ``.grad`` of a leaf holds after a pass that added to it, beside what arrived."""

import pytest
import torch

import gradtrace
from gradtrace.formats.base import FORMATS, Style
from tests import builders


def leaves(step, passes=3):
    with gradtrace.record() as recording:
        for number in range(passes):
            step(number)
    return {node.name: node for node in recording.trace.passes[-1].nodes if node.kind == "leaf"}


def test_a_leaf_tells_what_arrived_and_what_it_holds_afterwards():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    leaf = leaves(lambda number: ((number + 1) * w).sum().backward())["w"]
    assert leaf.grads[0].values == [3.0, 3.0]
    assert leaf.accumulated.values == w.grad.tolist() == [6.0, 6.0]


def test_where_the_gradient_is_what_arrived_nothing_more_is_said():
    w = torch.tensor([1.0, 2.0], requires_grad=True)

    def step(number):
        w.grad = None
        ((number + 1) * w).sum().backward()

    def zeroing(number):
        w.grad.zero_()
        ((number + 1) * w).sum().backward()

    assert leaves(step)["w"].accumulated is None
    assert leaves(zeroing)["w"].accumulated is None


def test_what_autograd_grad_returns_is_added_to_nothing():
    w = torch.tensor(2.0, requires_grad=True)
    (w * w).backward()
    assert leaves(lambda _: torch.autograd.grad(w * w, w))["w"].accumulated is None


@pytest.mark.parametrize("name", ["svg", "text", "dot"])
def test_picture_and_table_say_both(name):
    graph = builders.partials()
    nodes = [
        builders.leaf("n5", "v", 4.0, 50.0, accumulated=builders.scalar(62.0)) if node.id == "n5" else node
        for node in graph.nodes
    ]
    graph = type(graph)(1, "backward", tuple(nodes), graph.edges)
    assert "50 arrived, .grad 62" in FORMATS[name].function(builders.report(graph), Style())
