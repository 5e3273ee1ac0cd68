import re

from msgspec.structs import replace

from gradtrace.drawing.digraph import digraph
from gradtrace.drawing.palette import FILL, INK, PAGE
from gradtrace.fold import View
from gradtrace.formats.base import FORMATS, Style
from gradtrace.formats.dot import render
from gradtrace.model import BackwardPass, Edge, ErrorInfo, Node, Origin, TensorStats
from tests import builders

NAN, INF = TensorStats((3,), nan=1), TensorStats((3,), inf=2)
ZERO = TensorStats((3,), norm=0.0, mean=0.0, min=0.0, max=0.0, zeros=1.0)


def drawn(*nodes, edges=(), **more):
    return digraph(builders.report(BackwardPass(1, "backward", tuple(nodes), tuple(edges), **more))).source


def edges_of(dot):
    """Return the attributes of each edge as text, by its ends."""
    return dict(re.findall(r"^\t(\w+ -> \w+) \[(.*)", dot, re.MULTILINE))


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_dot_and_gv_files_are_dot():
    assert FORMATS.for_suffix("x.gv").name == FORMATS.for_suffix("x.dot").name == "dot"


def test_every_node_and_every_edge_of_the_pass_is_drawn_once():
    graph, dot = builders.partials(), render(builders.report(), Style())
    assert re.findall(r"^\t(n\d+) \[", dot, re.MULTILINE) == [node.id for node in graph.nodes]
    assert list(edges_of(dot)) == [f"{edge.source} -> {edge.target}" for edge in graph.edges]


def test_parallel_edges_are_kept():
    nodes = (builders.function("n0", "MulBackward0", "x*x", 9.0, order=0), builders.leaf("n1", "x", 3.0, 6.0))
    edges = (builders.edge("n0", "n1", 3.0), builders.edge("n0", "n1", 3.0, 1))
    assert drawn(*nodes, edges=edges).count("n0 -> n1") == 2


def test_a_larger_gradient_makes_a_thicker_edge():
    width = {
        end: float(re.search(r"penwidth=([\d.]+)", text)[1])
        for end, text in edges_of(render(builders.report(), Style())).items()
    }
    assert width["n4 -> n5"] > width["n6 -> n7"] > width["n2 -> n5"] > width["n0 -> n1"]


def test_none_zero_infinity_and_nan_differ_in_line_style_and_in_words():
    nodes = [Node(f"n{i}", "leaf", "AccumulateGrad", name=f"x{i}") for i in range(5)]
    edges = [Edge("n0", f"n{i}", 0, 0, grad) for i, grad in enumerate((None, ZERO, INF, NAN), 1)]
    looks = list(edges_of(drawn(*nodes, edges=edges)).values())
    for look, style, word in zip(
        looks, ("dashed", "dotted", "penwidth=4.5", ":#"), ("none", "all 0", "inf", "nan"), strict=True
    ):
        assert style in look
        assert word in look
        assert sum(style in other for other in looks) == 1


def test_the_legend_names_what_occurs_and_nothing_else():
    nodes = [Node(f"n{i}", "leaf", "AccumulateGrad", grads=(grad,)) for i, grad in enumerate((NAN, ZERO))]
    legend = drawn(*nodes).partition("node [")[0]
    assert "═ nan" in legend
    assert "zero" in legend
    assert "inf" not in legend
    assert "no gradient" not in legend


def test_where_all_gradients_are_alike_the_legend_has_one_colour_and_no_scale():
    def legend(*norms):
        grads = [builders.scalar(norm) for norm in norms]
        nodes = [Node(f"n{i}", "leaf", "AccumulateGrad", grads=(grad,)) for i, grad in enumerate(grads)]
        return drawn(*nodes).partition("node [")[0]

    assert legend(2.0, 2.0).count("■") == 1
    assert "gradient 2 " in legend(2.0, 2.0)
    assert "thicker" not in legend(2.0, 2.0)
    assert legend(2.0, 2.001).count("■") == 1
    assert legend(1.0, 100.0).count("■") == len(FILL)
    assert "100, thicker is larger" in legend(1.0, 100.0)


def test_a_node_of_a_derivative_is_not_what_was_differentiated():
    made = builders.function(
        "n0", "CosBackward0", "torch.sin(x)", 0.8, name="first", origin=Origin(1, "n3", "SinBackward0")
    )
    dot = drawn(made)
    assert "<b>first</b> = derivative of <font" in dot
    assert "first = torch.sin(x)" not in dot
    table = FORMATS["text"].function(builders.report(BackwardPass(1, "backward", (made,))), Style())
    assert "first = derivative of torch.sin(x) = 0.8" in table


def test_several_forward_outputs_have_a_line_each_and_a_bad_one_is_never_hidden():
    grads = (builders.scalar(1.0), None, *[builders.scalar(2.0)] * 3, NAN)
    dot = drawn(builders.function("n0", "UnbindBackward0", "x.unbind()", 1.0, order=0, grads=grads))
    assert "<b>grad[0] 1</b>" in dot
    assert "grad[1] none" in dot
    assert "2 more, 1 of them not finite" in dot


def test_the_failing_node_bears_the_error():
    error = ErrorInfo("RuntimeError", "returned nan values", node="n1")
    graph = replace(builders.partials(), error=error)
    rows = [line for line in digraph(builders.report(graph)).source.splitlines() if "raised RuntimeError" in line]
    assert len(rows) == 1
    assert rows[0].startswith("\tn1 [")
    assert "returned nan values" in rows[0]


def test_a_function_that_never_ran_says_so():
    assert "no grad, never ran" in drawn(builders.function("n0", "ExpBackward0", "x.exp()", 1.0, grads=(None,)))


def test_where_a_library_made_a_node_its_code_is_shown_with_the_users_line():
    library = builders.Source("/site-packages/lib/linear.py", 125, text="F.linear(input, self.weight)")
    dot = drawn(builders.function("n0", "AddmmBackward0", "net(x)", 1.0, order=0, library=library, module="net.0"))
    assert "F.linear(input, self.weight)" in dot
    assert "net.0 · linear.py:125 ← partials.py:6" in dot
    assert "site-packages" not in dot


def test_a_derivative_is_written_only_where_it_is_one():
    graph = builders.partials()
    assert "∂f/∂v = 50" in digraph(builders.report(graph)).source
    twice = replace(graph.nodes[0], grads=(builders.scalar(2.0),))
    assert "∂f" not in digraph(builders.report(replace(graph, nodes=(twice, *graph.nodes[1:])))).source


def test_a_parameter_known_by_its_path_has_a_grad_and_no_symbol():
    nodes = (builders.partials().nodes[0], builders.leaf("n1", "net.0.bias", 1.0, 2.0))
    assert "<b>grad 2</b>" in drawn(*nodes)


def test_a_long_value_stands_on_an_edge_as_its_norm():
    values = [i + 0.1234 for i in range(10)]
    edges = [Edge("n0", "n1", 0, 0, TensorStats((10,), norm=17.2, values=values))]
    dot = drawn(builders.leaf("n0", "x", 1.0, 1.0), builders.leaf("n1", "y", 1.0, 1.0), edges=edges)
    assert re.search(r"<td>‖17\.2‖</td>", dot)


def test_a_long_expression_is_cut_in_the_middle_and_whole_in_the_tooltip():
    code = f"torch.cat([{', '.join(f'tensor_{i}' for i in range(20))}], dim=1)"
    dot = drawn(builders.function("n0", "CatBackward0", code, 1.0, order=0))
    assert dot.count(code) == 1
    assert re.search(r"torch\.cat\(\[tens.* … .*dim=1\)", dot)


def test_a_leaf_of_a_long_run_is_drawn_beside_each_use():
    steps = 60
    nodes = [builders.function(f"n{i}", "MulBackward0", "w*h", 1.0, order=i) for i in range(steps)]
    nodes.append(builders.leaf(f"n{steps}", "w", 1.0, 60.0))
    edges = [builders.edge(f"n{i}", f"n{i + 1}", 1.0) for i in range(steps - 1)]
    edges += [builders.edge(f"n{i}", f"n{steps}", 1.0, 1) for i in range(steps)]
    graph = BackwardPass(1, "backward", tuple(nodes), tuple(edges))
    dot = digraph(builders.report(graph), Style(view=View(max_nodes=150))).source
    assert not re.search(rf"-> n{steps}", dot)
    assert dot.count(f"of {steps} boxes") == steps


def test_a_pass_of_three_thousand_nodes_is_one_run_with_its_count_and_curve():
    nodes = [builders.function(f"n{i}", "MulBackward0", "w*h", 1.0, order=i) for i in range(3000)]
    edges = [builders.edge(f"n{i}", f"n{i + 1}", 1.0) for i in range(2999)]
    dot = drawn(*nodes, edges=edges)
    assert list(edges_of(dot)) == ["run_n0 -> n2999"]
    assert "Mul × 2,999" in dot
    assert dot.count('width="3"') >= 40
    assert "3,000 nodes in 2 boxes" in dot


def test_what_is_asked_for_in_dot_is_given_as_it_is():
    assert render(builders.report(), Style(dot="digraph { a }")) == "digraph { a }"


def test_every_chip_is_legible_and_steps_get_darker():
    assert all(contrast(INK, fill) > 7 for fill in FILL)
    brightness = [luminance(fill) for fill in (PAGE, *FILL)]
    assert brightness == sorted(brightness, reverse=True)
