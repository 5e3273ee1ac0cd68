"""Two recordings compared: what parts first, what moved, what came and went, and why perhaps."""

from __future__ import annotations

import json
import sys

import pytest
from msgspec.structs import replace

from gradtrace import tracefile
from gradtrace.checks.trace_diff import Tolerance, compare, distance, match
from gradtrace.cli import main
from gradtrace.model import BackwardPass, Edge, TensorStats
from tests.builders import function, partials, scalar, trace
from tests.checking import recorded, restored

EXACT = Tolerance(1e-6, 0.0)


def with_gradient(graph, node_id, value):
    nodes = tuple(replace(n, grads=(scalar(value),)) if n.id == node_id else n for n in graph.nodes)
    return replace(graph, nodes=nodes)


def test_a_trace_is_the_same_as_itself():
    found = compare(trace(), trace(), EXACT)
    assert not found.differs
    assert found.reasons == ()


def test_the_first_difference_in_backward_order_is_the_first_told():
    other = with_gradient(with_gradient(partials(), "n4", 2.0), "n2", 3.0)
    found = compare(trace(), trace(other), EXACT)
    assert [change.before_id for change in found.changes] == ["n2", "n4"]
    assert found.changes[0].relative == pytest.approx((3 - 1) / 3)


def test_nodes_are_matched_whatever_their_ids_and_lines():
    graph = partials()
    ids = {node.id: f"x{node.id}" for node in graph.nodes}
    nodes = tuple(
        replace(n, id=ids[n.id], source=replace(n.source, line=90) if n.source else None) for n in graph.nodes
    )
    edges = tuple(replace(e, source=ids[e.source], target=ids[e.target]) for e in graph.edges)
    assert [(a.id, b.id) for a, b in match(graph, replace(graph, nodes=nodes, edges=edges))] == list(ids.items())


def test_a_node_in_the_middle_of_a_loop_that_came_does_not_shift_the_others():
    def loop(count):
        nodes = tuple(function(f"n{i}", "MulBackward0", "h * w", i, order=i) for i in range(count))
        return BackwardPass(1, "backward", nodes, tuple(Edge(f"n{i}", f"n{i + 1}") for i in range(count - 1)))

    longer = loop(6)
    odd = replace(longer.nodes[3], op="AddBackward0")
    found = compare(trace(loop(5)), trace(replace(longer, nodes=(*longer.nodes[:3], odd, *longer.nodes[4:]))), EXACT)
    assert found.gone == ()
    assert found.come == ("pass 1: AddBackward0 `h * w`",)


def test_none_zero_and_nan_are_three_facts():
    zero, nan = scalar(0.0), scalar(None)
    assert distance(None, None, EXACT) is None
    assert distance(nan, nan, EXACT) is None
    assert distance(None, zero, EXACT) == distance(zero, nan, EXACT) == float("inf")


def test_large_tensors_are_compared_by_their_statistics():
    a = TensorStats((1000,), norm=10.0, mean=0.1, min=-1.0, max=2.0)
    assert distance(a, replace(a, mean=0.1 + 1e-9), Tolerance(1e-6, 0.0)) is None
    assert distance(a, replace(a, mean=0.3), EXACT) == pytest.approx(0.1)


NET = """
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
h = net[0](torch.ones(3, 4))
{change}
loss = net[2](h.tanh()).pow(2).mean()
loss.backward()
"""


def test_a_changed_line_is_found_as_the_node_that_came(tmp_path):
    before = recorded(NET.format(change="pass"), tmp_path)
    after = recorded(NET.format(change="h = h * 1.5"), tmp_path)
    found = compare(before, after, Tolerance())
    assert found.come == ("pass 1: MulBackward0 `h * 1.5`",)
    assert {change.label for change in found.changes if change.kind == "leaf"} >= {"leaf net.0.weight"}


def test_a_refactoring_moves_nothing(tmp_path):
    before = recorded(NET.format(change="pass"), tmp_path)
    after = recorded(f"def unused():\n    return 1\n{NET.format(change='h = h')}", tmp_path)
    assert not compare(before, after, Tolerance(0.0, 0.0)).differs


def test_a_new_seed_and_half_precision_are_told_as_such(tmp_path):
    before = recorded(NET.format(change="pass"), tmp_path)
    seed = compare(before, recorded(f"torch.manual_seed(1){NET.format(change='pass')}", tmp_path), Tolerance())
    assert any("another seed" in reason for reason in seed.reasons)
    cast = NET.replace("net =", "net = None; torch.set_default_dtype(torch.bfloat16); net =").format(change="pass")
    half = recorded(cast + "torch.set_default_dtype(torch.float32)\n", tmp_path)
    reasons = compare(before, half, Tolerance()).reasons
    assert "gradients are float32 before, bfloat16 after" in reasons


def run(capsys, *arguments):
    with restored():
        sys.argv = ["gradtrace", "diff", *map(str, arguments)]
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0, capsys.readouterr().out


def test_the_command_tells_the_difference_and_draws_it(tmp_path, capsys):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    tracefile.save(trace(), a)
    tracefile.save(trace(with_gradient(partials(), "n5", 51.0)), b)
    assert run(capsys, a, a) == (0, "the gradients are the same\n")
    code, out = run(capsys, "-o", tmp_path / "d.dot", a, b)
    assert code == 1
    assert "leaf v: 50 before, 51 after, 0.01961 relative" in out
    assert "was 50" in (tmp_path / "d.dot").read_text()
    assert run(capsys, "--rtol", "0.1", a, b)[0] == 0


def test_the_difference_as_data(tmp_path, capfd):
    import os  # noqa: PLC0415

    a, b = tmp_path / "a.json", tmp_path / "b.json"
    tracefile.save(trace(), a)
    tracefile.save(trace(with_gradient(partials(), "n5", 51.0)), b)
    kept = os.dup(1)
    code, out = run(capfd, a, b, "--json")
    os.dup2(kept, 1)
    os.close(kept)
    (change,) = json.loads(out)["changes"]
    assert (code, change["label"], change["after"]["values"]) == (1, "leaf v", 51.0)
