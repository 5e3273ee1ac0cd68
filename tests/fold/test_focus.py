"""Focus: a few nodes with what is around them, and all else in boxes that say what is beyond."""

from collections import Counter

import pytest
from hypothesis import strategies as st

from gradtrace.drawing.digraph import digraph
from gradtrace.drawing.style import Style
from gradtrace.fold import View
from gradtrace.fold.folding import fold
from gradtrace.fold.selection import named
from tests import builders
from tests.fold.graphs import passes, repeated, structure
from tests.fold.test_fold import is_acyclic
from tests.fold.test_little import blocks
from tests.sweeps import sweep


def alone(folded):
    """The nodes that have a box to themselves."""
    return {box.nodes[0] for box in folded.boxes if box.kind in {"node", "op"}}


def stubs(folded):
    return {box.name: len(box.nodes) for box in folded.boxes if box.kind == "stretch"}


def test_so_many_steps_around_are_shown_and_the_rest_is_a_box_before_and_one_behind():
    folded = fold(repeated(1, 40), View(focus="n20", radius=2))
    assert alone(folded) == {"n18", "n19", "n20", "n21", "n22"}
    assert stubs(folded) == {"before": 18, "behind": 18}
    assert stubs(fold(repeated(1, 40), View(focus="n20"))) == {"before": 17, "behind": 17}


def test_a_leaf_in_focus_is_shown_with_those_who_use_it():
    folded = fold(builders.partials(), View(focus="v", radius=1))
    assert alone(folded) == {"n2", "n4"}
    (box,) = [box for box in folded.boxes if box.nodes == ("n4",)]
    assert box.leaves == ("n5",)


def test_the_end_of_a_path_is_enough():
    assert named(blocks(), "h.3.attn") == named(blocks(), "model.h.3.attn")
    assert named(blocks(), "h.3") == named(blocks(), "model.h.3")
    assert named(repeated(2, 3), "2.weight") == {node.id for node in repeated(2, 3).nodes if node.name == "h.2.weight"}


def test_the_picture_says_what_is_beyond():
    dot = digraph(builders.report(repeated(1, 40)), Style(view=View(focus="n20"))).source
    assert "before: 17 nodes" in dot
    assert "behind: 17 nodes" in dot
    assert "all but n20 and 3 steps around it (opens with --radius 6)" in dot


@sweep(40, 200, passes(), st.integers(0, 4), st.randoms(use_true_random=False))
def test_whatever_is_in_focus_the_fold_is_exact_and_has_no_cycle(graph, radius, random):
    folded = fold(graph, View(focus=random.choice(graph.nodes).id, radius=radius))
    assert folded.expand() == structure(graph)
    assert set(Counter(node_id for box in folded.boxes for node_id in box.nodes).values()) <= {1}
    assert is_acyclic(folded)


@sweep(40, 200, passes(), st.none() | st.integers(0, 3), st.randoms(use_true_random=False))
def test_where_it_does_not_fit_views_are_folded_and_fewer_nodes_around_are_shown(graph, radius, random):
    name = random.choice(graph.nodes).id
    least = fold(graph, View(focus=name, radius=radius), fits=lambda _: False)
    assert least.expand() == structure(graph)
    assert is_acyclic(least)
    assert len(least.boxes) <= len(fold(graph, View(focus=name, radius=radius or 0)).boxes)


@pytest.mark.parametrize("view", [View(focus="w"), View(through="w")])
def test_a_name_that_is_not_there_is_an_error(view):
    with pytest.raises(Exception, match="unknown node 'w'"):
        fold(builders.partials(), view)


def test_a_focus_that_is_too_large_to_be_read_is_folded_as_a_whole_is():
    graph = blocks()
    folded = fold(graph, View(focus="model.h"), fits=lambda folded: len(folded.boxes) <= 12)
    assert 2 < len(folded.boxes) <= 12
    assert folded.expand() == structure(graph)
    assert is_acyclic(folded)


@sweep(20, 100, passes(), st.randoms(use_true_random=False), st.integers(1, 6))
def test_however_little_fits_a_focus_is_exact_and_has_no_cycle(graph, random, most):
    name = random.choice(graph.nodes).id
    folded = fold(graph, View(focus=name), fits=lambda folded: len(folded.boxes) <= most)
    assert folded.expand() == structure(graph)
    assert is_acyclic(folded)
