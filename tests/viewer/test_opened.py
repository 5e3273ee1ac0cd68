"""What is inside a fold is all that it holds, in more boxes and smaller ones."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gradtrace.fold import View
from gradtrace.fold.folding import fold
from gradtrace.fold.line import line_of
from gradtrace.fold.opened import opened
from tests.fold.graphs import passes, repeated
from tests.viewer.networks import blocks


def check_all(graph, most):
    """Open every fold of a pass, and every fold in it."""
    folded = fold(graph, View(max_nodes=most))
    line = line_of(folded.graph)
    waiting = [box for box in folded.boxes if box.folded]
    for box in waiting:  # which grows
        inside = opened(line, box)
        assert sorted(node for each in inside.boxes for node in each.nodes) == sorted(box.nodes)
        assert len(inside.boxes) > 1
        held, ids = set(box.nodes), [each.id for each in inside.boxes]
        crossing = [edge for link in (*inside.links, *inside.entering, *inside.leaving) for edge in link.edges]
        own = {node: each.id for each in inside.boxes for node in each.nodes}
        onward = [e for e in folded.graph.edges if e.target in line.place and {e.source, e.target} & held]
        seen = [e for e in onward if own.get(e.source) is None or own.get(e.source) != own.get(e.target)]
        assert sorted(map(str, crossing)) == sorted(map(str, seen))
        assert len(ids) == len(set(ids))
        waiting += [each for each in inside.boxes if each.folded]
    return len(waiting)


@given(passes(), st.integers(1, 10))
@settings(max_examples=60, deadline=None)
def test_opening_a_fold_shows_its_nodes_and_edges_each_once(graph, most):
    check_all(graph, most)


@given(st.integers(1, 5), st.integers(2, 70), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_run_opens_into_its_segments(width, count, most):
    check_all(repeated(width, count), most)


def test_blocks_open_down_to_their_nodes():
    assert check_all(blocks(), 20) > 3
