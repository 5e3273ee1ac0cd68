from collections import Counter

import pytest
from hypothesis import strategies as st

from gradtrace.fold import View
from gradtrace.fold.folding import fold
from gradtrace.model import BackwardPass, Edge, Finding, ModuleCall, Node
from tests.fold.graphs import DIFFERENCES, function, passes, repeated, structure, tensor
from tests.sweeps import sweep

VIEWS = st.builds(
    View,
    max_nodes=st.integers(1, 12),
    depth=st.none() | st.integers(0, 3),
    open=st.sampled_from([(), ("net.a",), ("net",)]),
    full=st.booleans(),
)


def runs(folded):
    return [box for box in folded.boxes if box.kind == "run"]


def is_acyclic(folded):
    onward = {box.id: [link.target for link in folded.links if link.source == box.id] for box in folded.boxes}
    waits = Counter(target for targets in onward.values() for target in targets)
    ready = [box_id for box_id in onward if not waits[box_id]]
    for box_id in ready:
        for target in onward[box_id]:
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    return len(ready) == len(onward)


@sweep(60, 300, passes(), VIEWS)
def test_expanding_every_fold_gives_back_the_recorded_graph(graph, view):
    folded = fold(graph, view)
    assert folded.expand() == structure(graph)
    held = Counter(node_id for box in folded.boxes for node_id in box.nodes)
    assert set(held.values()) <= {1}
    assert is_acyclic(folded)


@sweep(40, 200,
    st.integers(1, 6), st.integers(2, 7), st.sets(st.integers(2, 9), max_size=2),
    st.none() | st.tuples(st.sampled_from(DIFFERENCES), st.integers(0, 41)),
)  # fmt: skip
def test_repeated_segments_expand_to_what_was_recorded_whatever_differs(width, count, skips, change):
    change = change and (change[0], change[1] % (width * count))
    graph = repeated(width, count, tuple(sorted(skips)), change)
    folded = fold(graph, View(max_nodes=2))
    assert folded.expand() == structure(graph)
    assert is_acyclic(folded)
    for box in runs(folded):
        check_run(graph, box)


def check_run(graph, box):
    """Node by node and edge by edge, by other means than the fold's own."""
    width = len(box.nodes) // box.count
    segments = [box.nodes[at : at + width] for at in range(0, len(box.nodes), width)]
    place = {node_id: (t, k) for t, segment in enumerate(segments) for k, node_id in enumerate(segment)}
    looks, wires = [set() for _ in segments], [Counter() for _ in segments]
    for node_id, (t, k) in place.items():
        node = graph.by_id[node_id]
        looks[t].add((k, node.op, node.grads[0].shape, str(node.attributes), len(graph.edges_from[node_id])))
        for edge in graph.edges_from[node_id]:
            if edge.target in place and place[edge.target][0] == t:
                wires[t][k, place[edge.target][1], edge.source_index] += 1
            elif graph.by_id[edge.target].kind == "leaf":
                wires[t][k, "leaf", len(graph.edges_into[edge.target])] += 1
    assert all(look == looks[0] for look in looks)
    assert all(wire == wires[0] for wire in wires)
    later = [sum(e.source not in place for n in segment for e in graph.edges_into[n]) for segment in segments[1:]]
    assert len(set(later)) <= 1


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_segment_with_a_small_difference_is_not_folded_with_the_others(what):
    where = 4 * 5 + 1
    odd = fold(repeated(4, 10, change=(what, where)), View(max_nodes=20))
    for box in runs(odd):
        segments = [box.nodes[at : at + 4] for at in range(0, len(box.nodes), 4)]
        holding = [segment for segment in segments if f"n{where}" in segment]
        # As the first of a run it may be entered otherwise than the others: that is where gradients come in.
        assert not holding or (what == "use" and segments[0] == holding[0])
    (plain,) = runs(fold(repeated(4, 10), View(max_nodes=4)))
    assert plain.count == 10


def test_a_small_pass_is_as_recorded():
    folded = fold(repeated(3, 2))
    assert not folded.is_folded
    assert [box.nodes for box in folded.boxes] == [(node.id,) for node in folded.graph.nodes]


def test_as_little_is_folded_as_is_needed():
    graph = repeated(5, 10)
    assert len(fold(graph, View(max_nodes=61)).boxes) == 61
    parameters = fold(graph, View(max_nodes=51))
    assert {box.kind for box in parameters.boxes} == {"node"}
    assert len(parameters.boxes) == 51
    assert [box.kind for box in fold(graph, View(max_nodes=6)).boxes] == ["run", "node"]


def test_a_chain_of_views_used_once_is_one_box_and_one_used_twice_is_not():
    ops = ["MulBackward0", "ViewBackward0", "TransposeBackward0", "ToCopyBackward0", "AddBackward0"]
    nodes = tuple(function(at, op) for at, op in enumerate(ops))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(4))
    (chain,) = [box for box in fold(BackwardPass(1, "backward", nodes, edges), View(max_nodes=4)).boxes if box.folded]
    assert chain.nodes == ("n1", "n2", "n3")
    twice = (*edges, Edge("n0", "n2", 1, 0, tensor()))
    kinds = [box.kind for box in fold(BackwardPass(1, "backward", nodes, twice), View(max_nodes=4)).boxes]
    assert "chain" not in kinds


def test_a_fold_keeps_what_came_in_what_went_out_and_the_extremes():
    norms = [4.0, 2.0, 8.0, 0.5, 1.0, 3.0]
    nodes = [Node("n9", "output", "output", grads=(tensor(norm=4.0),))]
    nodes += [function(at, norm=norm) for at, norm in enumerate(norms)] + [function(6, "EndBackward0", norm=0.25)]
    edges = [Edge("n9", "n0", 0, 0, tensor(norm=4.0))]
    edges += [Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor(norm=(*norms, 0.25)[at + 1])) for at in range(6)]
    finding = Finding("test", "error", "message", nodes=("n2",))
    folded = fold(BackwardPass(1, "backward", tuple(nodes), tuple(edges)), View(max_nodes=3), [finding])
    _, box, _ = folded.boxes
    assert (box.kind, box.count, box.summary.curve) == ("run", 6, tuple(norms))
    assert (box.summary.arrived.stats.norm, box.summary.left.stats.norm) == (4.0, 0.25)
    assert (box.summary.low, box.summary.high) == ((0.5, "n3"), (8.0, "n2"))
    assert box.findings == (finding,)


def modules(blocks=6):
    """A net of blocks of different shapes, so that only their module calls can fold them."""
    calls, nodes = [ModuleCall("net", "Net")], []
    for block in range(blocks):
        calls += [ModuleCall(f"net.{block}", "Block", 0), ModuleCall(f"net.{block}.a", "A", 2 * block + 1)]
        for k in range(4):
            call = 2 * block + 1 + k // 2
            nodes.append(function(len(nodes), size=len(nodes) + 1, call=call, module=calls[call].path))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(len(nodes) - 1))
    return BackwardPass(1, "backward", tuple(nodes), edges, calls=tuple(calls))


def test_modules_fold_to_the_deepest_level_that_fits():
    graph = modules()
    assert [box.kind for box in fold(graph, View(max_nodes=18)).boxes].count("module") == 6
    assert len(fold(graph, View(max_nodes=18)).boxes) == 18
    assert [box.kind for box in fold(graph, View(max_nodes=6)).boxes] == ["module"] * 6
    assert len(fold(graph, View(max_nodes=5)).boxes) == 1


def test_an_opened_module_stays_open_and_the_others_fold():
    folded = fold(modules(), View(max_nodes=12, open=("net.3",)))
    alone = [box for box in folded.boxes if not box.folded]
    assert [box.nodes for box in alone] == [("n12",), ("n13",), ("n14",), ("n15",)]
    assert len(folded.boxes) == 9


def test_a_depth_asked_for_is_kept_whatever_the_number_of_boxes():
    assert len(fold(modules(), View(max_nodes=2, depth=2)).boxes) == 6
    assert len(fold(modules(), View(max_nodes=2, depth=1)).boxes) == 1


def test_what_has_neither_repetition_nor_module_is_folded_in_stretches():
    nodes = tuple(function(at, f"Op{at * at % 97}Backward0", at + 1) for at in range(97))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(96))
    folded = fold(BackwardPass(1, "backward", nodes, edges), View(max_nodes=10))
    assert len(folded.boxes) == 10
    assert {box.kind for box in folded.boxes} == {"stretch"}


def test_a_hundred_thousand_nodes_fold_without_recursion():
    size = 100_000
    graph = long_chain(size)
    output, run, _ = fold(graph).boxes
    assert (output.kind, run.count, len(run.summary.curve)) == ("node", size - 1, size - 1)


def long_chain(size):
    stats = tensor()
    nodes = [Node("n0", "output", "output", grads=(stats,))]
    nodes += [Node(f"n{at}", "function", "MulBackward0", grads=(stats,), order=at - 1) for at in range(1, size + 1)]
    edges = [Edge(f"n{at}", f"n{at + 1}", 0, 0, stats) for at in range(size)]
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges))
