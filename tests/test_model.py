"""The model: plain immutable data, the same in memory and in the design."""

import msgspec
import pytest

from gradtrace import model
from gradtrace.model import BackwardPass, Edge, Node
from tests.builders import edge, leaf, partials, report, scalar, trace

# The table of DESIGN.md, section 3: field names are a public interface.
FIELDS = {
    "Trace": "format_version command versions passes series error",
    "BackwardPass": "index kind call rank parent nodes edges error",
    "Node": "id kind op name module source values grads saved attributes order seconds",
    "Edge": "source source_index target target_index grad",
    "TensorStats": "shape dtype device norm mean min max zeros nan inf values",
    "Source": "filename line end_line column end_column function text",
    "Finding": "check severity message hint nodes source pass_index",
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_struct_has_the_fields_of_the_design(name):
    assert set(FIELDS[name].split()) <= set(getattr(model, name).__struct_fields__)


@pytest.mark.parametrize("thing", [trace(), partials(), leaf("n0", "x", 1.0, 1.0), scalar(1.0), report()])
def test_nothing_can_be_changed(thing):
    with pytest.raises(AttributeError, match="immutable"):
        setattr(thing, thing.__struct_fields__[0], None)


def test_every_edge_is_found_from_both_its_ends():
    graph = partials()
    assert [e for found in graph.edges_from.values() for e in found] == sorted(graph.edges, key=lambda e: e.source)
    assert sum(map(len, graph.edges_into.values())) == len(graph.edges)
    assert {e.source for e in graph.edges_into["n5"]} == {"n2", "n4"}


def test_a_node_without_edges_has_empty_lists():
    graph = BackwardPass(1, "backward", (leaf("n0", "x", 1.0, None),))
    assert graph.edges_from == graph.edges_into == {"n0": []}


def test_parallel_edges_are_kept_apart():
    square = BackwardPass(
        1,
        "backward",
        (Node("n0", "function", "MulBackward0"), leaf("n1", "a", 3.0, 6.0)),
        (edge("n0", "n1", 3.0, 0), edge("n0", "n1", 3.0, 1)),
    )
    assert [e.source_index for e in square.edges_from["n0"]] == [0, 1]
    assert len(square.edges_into["n1"]) == 2


def test_the_gradients_that_meet_in_a_leaf_add_up_to_its_own():
    graph = partials()
    for node in graph.nodes:
        if node.kind == "leaf":
            assert sum(e.grad.values for e in graph.edges_into[node.id]) == node.grads[0].values


def test_what_is_asked_of_a_pass_is_not_part_of_it():
    graph = partials()
    assert graph.by_id["n7"].name == "u"
    assert graph == partials()
    assert "by_id" not in msgspec.to_builtins(graph)


def test_an_edge_is_small():
    assert msgspec.to_builtins(Edge("n0", "n1")) == {"source": "n0", "target": "n1"}
