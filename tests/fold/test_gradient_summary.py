"""What a fold says of the gradients in it, against what all its nodes and edges say one by one."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gradtrace.fold import View
from gradtrace.fold.folding import fold
from gradtrace.model import Finding
from tests.fold.graphs import passes, repeated, tensor
from tests.fold.test_little import blocks

KINDS = st.sampled_from(["finite", "finite", "finite", "zero", "none", "nan", "inf"])


@st.composite
def with_gradients(draw):
    """A pass whose gradients are of any size, zero, missing or not finite."""
    sized = st.builds(repeated, st.integers(1, 4), st.integers(2, 9))
    graph = draw(st.one_of(passes(40), sized, st.builds(blocks, st.integers(2, 8))))

    def grad():
        what = draw(KINDS)
        finite = replace(tensor(norm=draw(st.floats(1e-12, 1e12))), zeros=0.0)
        return {
            "finite": finite,
            "zero": replace(tensor(norm=0.0), zeros=1.0),
            "none": None,
            "nan": replace(tensor(norm=1.0), nan=1),
            "inf": replace(tensor(norm=1.0), inf=2),
        }[what]

    nodes = tuple(replace(node, grads=(grad(),)) for node in graph.nodes)
    edges = tuple(replace(edge, grad=grad()) for edge in graph.edges)
    return replace(graph, nodes=nodes, edges=edges)


def together(tensors):
    """The norm of all in one vector, and how many elements of them are not finite."""
    known = [s for s in tensors if s is not None]
    return math.sqrt(math.fsum((s.norm or 0.0) ** 2 for s in known)), sum(s.nan + s.inf for s in known), len(tensors)


def flow(found):
    s = found.stats
    return (s.norm or 0.0, s.nan + s.inf, found.tensors) if s else (0.0, 0, found.tensors)


@settings(max_examples=150, deadline=None)
@given(with_gradients(), st.integers(1, 20))
def test_a_fold_says_what_all_its_nodes_and_edges_say(graph, most):
    findings = [Finding("test", "error", f"at {node.id}", nodes=(node.id,)) for node in graph.nodes[::3]]
    folded = fold(graph, View(max_nodes=most), findings)
    leaves = {node.id for node in graph.nodes if node.kind == "leaf"}
    for box in folded.boxes:
        if len(box.nodes) > 1:
            check(graph, box, set(box.nodes), leaves)
        if folded.is_folded:
            held = {*box.nodes, *box.leaves}
            assert {f.nodes[0] for f in box.findings} == {f.nodes[0] for f in findings} & held


def check(graph, box, inside, leaves):
    mine = [s for node_id in box.nodes for s in graph.by_id[node_id].grads]
    mine += [e.grad for e in graph.edges if e.source in inside and e.target in leaves]
    finite = [s.norm for s in mine if s and s.norm and not s.nan and not s.inf]
    low, high = box.summary.low, box.summary.high
    assert (low is None, high is None) == (not finite, not finite)
    if low and high:
        assert (low[0], high[0]) == pytest.approx((min(finite), max(finite)), rel=1e-6)
    assert box.summary.none == sum(s is None for s in mine)
    assert box.summary.zero == sum(s is not None and s.norm == 0 for s in mine)
    assert box.summary.broken == sum(s is not None and s.nan + s.inf > 0 for s in mine)
    out = [e.grad for e in graph.edges if e.source in inside and e.target not in inside | leaves]
    assert flow(box.summary.left) == pytest.approx(together(out))
    entered = {e.target for e in graph.edges if e.target in inside and e.source not in inside}
    entered |= {node_id for node_id in inside if graph.by_id[node_id].kind == "output"}
    assert flow(box.summary.arrived) == pytest.approx(together([graph.by_id[n].grads[0] for n in entered]))


def test_the_curve_is_the_norm_that_arrived_at_each_step():
    norms = [2.0**-at for at in range(40)]
    graph = repeated(3, 40)
    nodes = [replace(n, grads=(tensor(norm=norms[i // 3] if i < 120 else 1.0),)) for i, n in enumerate(graph.nodes)]
    (run,) = [box for box in fold(replace(graph, nodes=tuple(nodes)), View(max_nodes=3)).boxes if box.kind == "run"]
    assert run.summary.curve == tuple(norms)


def test_a_step_that_received_zero_or_no_number_is_in_the_curve_and_one_that_received_nothing_is_no_such_step():
    graph = repeated(3, 10)
    nodes = list(graph.nodes)
    nodes[12] = replace(nodes[12], grads=(replace(tensor(), nan=1),))
    nodes[18] = replace(nodes[18], grads=(replace(tensor(norm=0.0), zeros=1.0),))
    (run,) = [box for box in fold(replace(graph, nodes=tuple(nodes)), View(max_nodes=3)).boxes if box.kind == "run"]
    assert math.isnan(run.summary.curve[4])
    assert run.summary.curve[5:7] == (1.0, 0.0)
    nodes[15] = replace(nodes[15], grads=(None,))
    counts = [box.count for box in fold(replace(graph, nodes=tuple(nodes)), View(max_nodes=8)).boxes]
    assert 10 not in counts
