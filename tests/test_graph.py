from gradtrace.graph import beside_each_use, origin, span
from gradtrace.model import BackwardPass
from tests import builders


def chain(length, *, shared=True):
    """A chain of functions, each of which uses one leaf, if there is one."""
    nodes = [builders.function(f"n{i}", "MulBackward0", "w*h", 1.0, order=i) for i in range(length)]
    edges = [builders.edge(f"n{i}", f"n{i + 1}", 1.0) for i in range(length - 1)]
    if shared:
        nodes.append(builders.leaf(f"n{length}", "w", 1.0, 1.0))
        edges += [builders.edge(f"n{i}", f"n{length}", 1.0, 1) for i in range(length)]
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges))


def test_the_span_of_a_chain_is_its_length_and_a_shared_leaf_makes_it_a_square():
    assert span(chain(10, shared=False)) == 9
    assert span(chain(10)) == 9 + sum(range(1, 11))


def test_a_shared_leaf_gets_a_copy_beside_each_use():
    graph = beside_each_use(chain(5))
    copies = [node for node in graph.nodes if origin(node.id) == "n5"]
    assert len(copies) == 5
    assert all(len(graph.edges_into[copy.id]) == 1 for copy in copies)
    assert [origin(node.id) for node in graph.nodes][:4] == ["n0", "n5", "n1", "n5"]


def test_copies_keep_what_flowed_along_each_edge():
    before, after = builders.partials(), beside_each_use(builders.partials())
    told = sorted((edge.source, origin(edge.target), edge.source_index, edge.grad.values) for edge in after.edges)
    assert told == sorted((edge.source, edge.target, edge.source_index, edge.grad.values) for edge in before.edges)


def test_fifty_thousand_nodes_take_no_recursion():
    graph = beside_each_use(chain(50_000))
    assert span(graph) == len(graph.edges)  # with a copy of the leaf beside each use, no edge is longer than one rank
