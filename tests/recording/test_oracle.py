"""Every recorded gradient against torch.autograd.grad, every node set against torchviz, on random graphs."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import pytest
import torch
from hypothesis import strategies as st

from gradtrace.recording.recorder import Recorder
from tests.sweeps import sweep

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import torchviz

SIZES = st.sampled_from([1, 2, 4, 30])


@st.composite
def programs(draw):
    """A list of steps, each an op and the positions of its inputs among what there is so far."""
    ops = st.sampled_from(
        ["add", "mul", "sub", "sin", "tanh", "exp", "matmul", "t", "view", "split", "sum0", "cat", "inplace", "same",
         "scalar", "double", "half", "unbind", "where", "expand"]
    )  # fmt: skip
    steps = draw(st.lists(st.tuples(ops, st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
    return draw(SIZES), draw(st.integers(1, 3)), steps


def build(size, leaf_count, steps):
    """Run the program; return the leaves, all intermediate tensors that are still valid, and the loss."""
    torch.manual_seed(size * 7 + leaf_count)
    leaves = [torch.rand(size, size, requires_grad=True) for _ in range(leaf_count)]
    tensors = list(leaves)
    for op, first, second in steps:
        tensors += apply(op, tensors[first % len(tensors)], tensors[second % len(tensors)])
    loss = sum((tensor.double().tanh().mean() for tensor in tensors[leaf_count:]), torch.zeros((), dtype=torch.float64))
    return leaves, tensors, loss


def apply(op, a, b):
    binary = {"add": torch.add, "mul": torch.mul, "sub": torch.sub}
    unary = {"sin": torch.sin, "tanh": torch.tanh, "exp": lambda x: torch.exp(-x.abs()), "t": lambda x: x.t()}
    if op in binary:
        return [binary[op](a, b)]
    if op in unary:
        return [unary[op](a)]
    n = a.shape[0]
    return {
        "matmul": lambda: [a @ b.to(a.dtype) / n],
        "view": lambda: [a.reshape(-1).view(n, n)],
        "split": lambda: [torch.cat([part * (i + 1) for i, part in enumerate(a.split(max(n // 2, 1)))])],
        "sum0": lambda: [a.sum(0, keepdim=True).expand(n, n)],
        "cat": lambda: [torch.cat([a, a])[:n]],
        "inplace": lambda: [(a * 1).mul_(2).add_(1)],
        "same": lambda: [a * a],
        "scalar": lambda: [a * 3 + 1],
        "double": lambda: [a.double()],
        "half": lambda: [a.to(torch.bfloat16).float()],
        "unbind": lambda: [torch.stack(a.unbind(0)[::-1])],
        "where": lambda: [torch.where(a > 0.5, a, torch.zeros_like(a))],
        "expand": lambda: [a[:1].expand(n, n)],
    }[op]()


def recorded(loss):
    with Recorder() as recorder:
        loss.backward(retain_graph=True)
    return recorder.trace.passes[0]


def nodes_below(loss):
    found, seen = [loss.grad_fn], {loss.grad_fn}
    for node in found:
        fresh = {n for n, _ in node.next_functions if n is not None} - seen
        seen |= fresh
        found += fresh
    return found


def close(stats, gradient):
    if gradient is None:
        return stats is None
    flat = gradient.double().reshape(-1)
    assert stats.shape == tuple(gradient.shape)
    assert stats.norm == pytest.approx(flat.norm().item(), rel=1e-5, abs=1e-12)
    assert stats.mean == pytest.approx(flat.mean().item(), rel=1e-3, abs=1e-6)
    assert stats.min == flat.min().item()
    assert stats.max == flat.max().item()
    assert stats.zeros == pytest.approx((flat == 0).double().mean().item())
    if gradient.numel() <= 16:
        assert stats.values == gradient.tolist()
    return True


@sweep(12, 60, programs())
def test_each_leaf_shows_the_gradient_that_autograd_computes(program):
    leaves, _, loss = build(*program)
    expected = torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True)
    shown = {node.name: node for node in recorded(loss).nodes if node.kind == "leaf"}
    for index, gradient in enumerate(expected):
        node = shown.get(f"leaves[{index}]")
        if gradient is None:
            assert node is None
        else:
            assert close(node.grads[0], gradient)
            assert close(node.values[0], leaves[index].detach())


@sweep(12, 60, programs())
def test_each_node_shows_the_gradient_with_respect_to_its_tensor(program):
    leaves, tensors, loss = build(*program)
    made = tensors[len(leaves) :]
    expected = torch.autograd.grad(loss, made, retain_graph=True, allow_unused=True)
    shown = {node.name: node for node in recorded(loss).nodes if node.kind == "function"}
    for tensor, gradient in zip(made, expected, strict=True):
        first_bound = next(index for index, other in enumerate(tensors) if other is tensor)
        if first_bound < len(leaves):
            continue  # double() of a double is the leaf itself
        node = shown[f"tensors[{first_bound}]"]
        assert close(node.grads[tensor.output_nr], gradient)
        assert node.op == type(tensor.grad_fn).__name__


@sweep(8, 40, programs())
def test_the_gradients_into_a_node_sum_to_what_arrived_there(program):
    _, _, loss = build(*program)
    graph = recorded(loss)
    for node in graph.nodes:
        for output, arrived in enumerate(node.grads):
            flows = [edge.grad for edge in graph.edges_into[node.id] if edge.target_index == output]
            if node.kind == "output" or arrived is None or any(f is None or f.mean is None for f in flows):
                continue
            assert sum(f.mean for f in flows) == pytest.approx(arrived.mean, rel=1e-3, abs=1e-6)


@sweep(8, 40, programs())
def test_the_nodes_are_those_of_torchviz(program):
    _, _, loss = build(*program)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it uses distutils
        source = torchviz.make_dot(loss).source
    # torchviz draws a tensor in blue or green and the function in grey without a fill.
    functions = [
        label
        for label, rest in re.findall(r'^\t\d+ \[label="?([^"\]\n]*?)"?(\].*| .*)$', source, re.MULTILINE)
        if "fillcolor" not in rest
    ]
    graph = recorded(loss)
    assert Counter(functions) == Counter(node.op for node in graph.nodes if node.kind != "output")
    below = nodes_below(loss)
    assert len(below) == len(graph.nodes) - 1
    links = sum(target is not None for node in below for target, _ in node.next_functions)
    assert len(graph.edges) == links + 1
