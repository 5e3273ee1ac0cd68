from msgspec.structs import replace

from gradtrace.drawing.digraph import digraph
from gradtrace.formats.base import Style
from gradtrace.formats.text import render
from gradtrace.model import SavedTensor
from tests import builders


def timed():
    graph = builders.partials()
    nodes = tuple(replace(node, seconds=at / 1000) for at, node in enumerate(graph.nodes))
    return builders.report(replace(graph, nodes=nodes))


def test_the_slowest_node_is_first_where_the_table_is_sorted_by_seconds():
    rows = render(timed(), Style(sort="seconds")).splitlines()[3:11]
    assert [row.split()[0] for row in rows] == [f"n{at}" for at in range(7, -1, -1)]
    assert "7.000 ms" in rows[0]
    assert " ms" not in render(timed(), Style())


def test_it_says_what_is_kept_for_backward_and_which_node_keeps_most():
    graph = builders.partials()
    kept = {"n2": 1024, "n4": 3 * 1024}
    nodes = [
        replace(n, saved=(SavedTensor("self", (4,), "float32", kept[n.id]),) if n.id in kept else ())
        for n in graph.nodes
    ]
    text = render(builders.report(replace(graph, nodes=tuple(nodes))), Style())
    assert "saved for backward: 4.0 KiB, most in PowBackward0 (n4): 3.0 KiB" in text


def test_a_compiled_region_says_how_to_see_what_is_inside():
    graph = builders.partials()
    nodes = (graph.nodes[0], replace(graph.nodes[1], op="CompiledFunctionBackward"), *graph.nodes[2:])
    report = builders.report(replace(graph, nodes=nodes))
    assert "n1: torch.compile made this one node; TORCH_COMPILE_DISABLE=1" in render(report, Style())
    assert "TORCH_COMPILE_DISABLE=1" in digraph(report).source


def test_the_largest_gradient_is_first_where_the_table_is_sorted_by_norm_and_nan_before_it():
    report = builders.report(builders.partials())
    rows = [row.split()[0] for row in render(report, Style(sort="norm")).splitlines()[3:11]]
    norms = {node.id: node.grads[0].norm for node in report.graph.nodes}
    assert [norms[row] for row in rows] == sorted(norms.values(), reverse=True)
    broken = report.graph.nodes[3]
    nodes = tuple(replace(n, grads=(replace(n.grads[0], nan=1),)) if n is broken else n for n in report.graph.nodes)
    sick = replace(report, graph=replace(report.graph, nodes=nodes))
    assert render(sick, Style(sort="norm")).splitlines()[3].split()[0] == broken.id
