import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from gradtrace.cli.draw_fallback import drawn_or_less
from gradtrace.drawing.columns import columns_of
from gradtrace.drawing.digraph import digraph
from gradtrace.drawing.sizes import size_of
from gradtrace.engine import draw
from gradtrace.errors import EngineError, UnknownNameError
from gradtrace.fold import View
from gradtrace.fold.folding import fold
from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import BackwardPass, Edge, Finding, ModuleCall, Report
from gradtrace.registry import Plugin
from tests import builders
from tests.fold.graphs import function, passes, repeated, tensor
from tests.sweeps import sweep

NS = "{http://www.w3.org/2000/svg}"


def svg(graph, **style):
    return ET.fromstring(FORMATS["svg"].function(builders.report(graph), Style(**style)))


def heights(picture):
    """Return the top of each box and both ends of each edge, from the SVG alone."""
    tops = {}
    for group in picture.iter(f"{NS}g"):
        if "node" in group.get("class", "").split():
            ys = [float(text.get("y")) for text in group.iter(f"{NS}text")]
            tops[group.get("data-id")] = min(ys)
    ends = [g.get("data-id").split("->") for g in picture.iter(f"{NS}g") if "edge" in g.get("class", "").split()]
    return tops, ends


def called_twice(times=6):
    """One module, called again and again with other ops between: by name, one frame would hold all calls."""
    calls = [ModuleCall("net", "Net")]
    nodes = []
    for _ in range(times):
        calls.append(ModuleCall("net.drop", "Dropout", 0))
        for call in (0, len(calls) - 1, len(calls) - 1):
            nodes.append(function(len(nodes), call=call, module=calls[call].path))
    edges = [Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(len(nodes) - 1)]
    edges += [Edge(f"n{at}", f"n{at + 4}", 1, 0, tensor()) for at in range(0, len(nodes) - 4, 3)]
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges), calls=tuple(calls))


def ribbon(length=100):
    nodes = tuple(function(at, f"Op{at}Backward0") for at in range(length))
    edges = tuple(Edge(f"n{at}", f"n{at + 1}", 0, 0, tensor()) for at in range(length - 1))
    return BackwardPass(1, "backward", nodes, edges)


def net(layers=12):
    """A plain net: in each layer's frame an op, and below it a bias and, behind a view, a weight."""
    calls, nodes, edges = [ModuleCall("net", "Net")], [], []
    for layer in range(layers):
        calls.append(ModuleCall(f"net.{layer}", "Linear", 0))
        made = {"call": layer + 1, "module": f"net.{layer}"}
        at = 4 * layer
        nodes += [function(at, "AddmmBackward0", **made), function(at + 1, "TBackward0", **made)]
        nodes += [replace(function(at + i), kind="leaf", op="AccumulateGrad", name=f"net.{layer}.{i}") for i in (2, 3)]
        ends = [(at, at + 1), (at, at + 2), (at + 1, at + 3), *([(at, at + 4)] if layer < layers - 1 else [])]
        edges += [Edge(f"n{a}", f"n{b}", i, 0, tensor()) for i, (a, b) in enumerate(ends)]
    edges.sort(key=lambda edge: int(edge.source[1:]))
    return BackwardPass(1, "backward", tuple(nodes), tuple(edges), calls=tuple(calls))


def test_no_edge_runs_upward_though_a_module_is_called_again_and_again():
    picture = svg(called_twice(), columns="1", view=View(full=True))
    tops, ends = heights(picture)
    assert len(ends) == 22
    assert all(tops[source] < tops[target] for source, target in ends)
    assert sum("drop" in (text.text or "") and "Dropout" in text.text for text in picture.iter(f"{NS}text")) == 6


@sweep(6, 25, passes(most=20))
def test_no_edge_of_any_pass_runs_upward(graph):
    tops, ends = heights(svg(graph, columns="1", view=View(max_nodes=12)))
    assert all(tops[source] < tops[target] for source, target in ends)


def with_norms(graph, norm):
    """The pass with other gradients: the norm of each after its number."""
    nodes = [replace(n, grads=tuple(replace(s, norm=norm(i)) for s in n.grads)) for i, n in enumerate(graph.nodes)]
    edges = [replace(edge, grad=replace(edge.grad, norm=norm(i))) for i, edge in enumerate(graph.edges)]
    return replace(graph, nodes=tuple(nodes), edges=tuple(edges))


def skeleton(graph, most):
    """All that is laid out but for numbers, and for the colour and thickness that say the same."""
    text = digraph(builders.report(graph), Style(view=View(max_nodes=most))).source.partition("]\n")[2]
    text = re.sub(r'(color|penwidth)="?[#0-9a-f:.]+"?', r"\1", text)
    text = re.sub(r"<table border=.0. cellborder=.0. cellspacing=.0. cellpadding=.0.>.*?</table>", "bar", text)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]\d+)?", "#", re.sub(r"\([a-z]*_?n\d+\)| {2,}|(?<=label=\") +", "", text))


@sweep(
    8,
    30,
    st.one_of(
        passes(40), st.builds(repeated, st.integers(1, 5), st.integers(2, 30)), st.just(ribbon()), st.just(net())
    ),
    st.integers(4, 80),
    st.randoms(use_true_random=False),
)
def test_a_changed_gradient_changes_numbers_and_no_box_no_line_and_no_column(graph, most, random):
    assert skeleton(with_norms(graph, lambda at: (1 + at / 1000) * 10 ** random.uniform(-9, 9)), most) == skeleton(
        with_norms(graph, lambda at: 0.1234 + at / 1000), most
    )


def test_two_runs_draw_the_same_bytes():
    style = Style(view=View(max_nodes=20))
    sources = [FORMATS["svg"].function(builders.report(repeated(4, 60)), style) for _ in range(2)]
    assert sources[0] == sources[1]


def test_where_all_is_too_much_for_the_engine_the_fold_is_drawn_with_text_and_json_beside(tmp_path, capsys):
    report, target = builders.report(repeated(4, 60)), tmp_path / "x.svg"
    style = Style(view=View(full=True), timeout=5)
    late = Plugin("late", _late)
    assert drawn_or_less(late, report, style, str(target)) == "folded"
    assert "301 nodes" in (tmp_path / "x.svg.txt").read_text(encoding="utf-8")
    assert (tmp_path / "x.svg.json").stat().st_size > 1000
    assert "took more than 5 s" in capsys.readouterr().err


def _late(_report, style):
    if style.view.full:
        error = EngineError("the layout took more than 5 s and was stopped")
        error.slow = True
        raise error
    return "folded"


def test_a_box_says_what_was_found_in_it_and_so_does_a_node():
    finding = Finding("nonfinite-origin", "error", "made a NaN", nodes=("n4",))
    graph = repeated(4, 60)
    folded = digraph(Report(builders.trace(graph), graph, (finding,)), Style(view=View(max_nodes=20))).source
    assert "× nonfinite-origin" in folded
    small = digraph(Report(builders.trace(), builders.partials(), (finding,))).source
    assert "× nonfinite-origin" in small
    assert "made a NaN" in small


def test_boxes_lead_nowhere_or_to_the_line_of_their_code():
    assert "href" not in digraph(builders.report()).source
    source = digraph(builders.report(), Style(link="https://host/blob/main/{file}#L{line}")).source
    assert 'href="https://host/blob/main/examples/partials.py#L6"' in source


def test_only_the_ways_through_what_is_named_are_drawn():
    focus = fold(builders.partials(), View(through="n4"))
    assert {node.id for node in focus.graph.nodes} == {"n0", "n1", "n3", "n4", "n5"}
    assert {node.id for node in fold(builders.partials(), View(through="u")).graph.nodes} == {
        "n0",
        "n1",
        "n2",
        "n3",
        "n6",
        "n7",
    }
    assert len(fold(builders.partials(), View(through="partials.py:6")).graph.nodes) == 8
    assert len(fold(builders.partials(), View(through="Pow")).graph.nodes) == 7


def test_only_the_ways_between_two_are_drawn_whichever_is_named_first():
    for pair in (("n1", "v"), ("v", "n1")):
        graph = fold(builders.partials(), View(between=pair)).graph
        assert {node.id for node in graph.nodes} == {"n1", "n2", "n3", "n4", "n5"}
    with pytest.raises(UnknownNameError, match="no way"):
        fold(builders.partials(), View(between=("n2", "n4")))


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ({"focus": "w"}, "unknown node 'w'; name a variable, an op, a module, an id, or a line"),
        ({"focus": "powbackward"}, "unknown node 'powbackward'; perhaps PowBackward0"),
        ({"focus": "partials.py:99"}, "unknown node 'partials.py:99'; perhaps partials.py:6"),
        ({"open": ("h.1",)}, "unknown module 'h.1'; no module was called in this pass"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_most_like_it(view, said):
    with pytest.raises(UnknownNameError) as caught:
        fold(builders.partials(), View(**view))
    assert str(caught.value).startswith(said)


def test_a_module_that_is_not_there_is_told_with_those_most_like_it():
    with pytest.raises(UnknownNameError, match=r"unknown module 'net\.dorp'; perhaps net\.drop"):
        fold(called_twice(), View(open=("net.dorp",)))


def test_a_ribbon_is_wrapped_into_columns_and_what_crosses_is_numbered_at_both_ends():
    folded = fold(ribbon())
    cards = dict.fromkeys(folded.by_id, (100.0, 80.0))
    column = columns_of(folded, cards, "auto")
    assert all(column[link.source] <= column[link.target] for link in folded.links)
    assert set(column.values()) == set(range(1 + max(column.values())))
    assert max(column.values()) > 2
    assert set(columns_of(folded, cards, "1").values()) == {0}
    assert set(columns_of(folded, cards, "5").values()) == set(range(5))
    picture = svg(ribbon())
    width, height = (float(picture.get(key).removesuffix("pt")) for key in ("width", "height"))
    assert 0.6 < height / width < 2.5
    words = [text.text for text in picture.iter(f"{NS}text")]
    assert words.count("to column 2") == words.count("from column 1") == 1
    assert "to column 2" not in FORMATS["svg"].function(builders.report(), Style())


def test_the_sizes_that_columns_are_cut_by_are_those_of_the_layout():
    graph = with_norms(repeated(4, 60), lambda at: 0.1234 + at / 1000)
    picture = digraph(builders.report(graph), Style(view=View(max_nodes=20), columns="1"))
    plain = draw(picture.source, "plain").decode().replace("\\\n", "")
    laid = [line.split()[4:6] for line in plain.splitlines() if line.startswith("node ")]
    labels = re.findall(r"^\t+\w+ \[label=(<<.*>>) class", picture.source, re.MULTILINE)
    assert len(laid) == len(labels) > 1
    for label, inches in zip(labels, laid, strict=True):
        for about, inch in zip(size_of(label), inches, strict=True):
            assert about == pytest.approx(72 * float(inch), rel=0.2)


def test_a_plain_net_is_no_slope_but_a_ribbon_of_frames_one_below_the_other():
    picture = svg(net(), columns="1", view=View(full=True))
    width, height = (float(picture.get(key).removesuffix("pt")) for key in ("width", "height"))
    assert height > 6 * width
    tops, ends = heights(picture)
    assert all(tops[source] < tops[target] for source, target in ends)
    for layer in range(11):
        assert max(tops[f"n{4 * layer + i}"] for i in range(4)) < tops[f"n{4 * layer + 4}"]


def test_attributes_and_saved_tensors_are_shown_where_asked_for():
    style = Style(attributes=50, saved=True)
    assert "exponent = 3" in digraph(builders.report(), style).source
    assert "exponent" not in digraph(builders.report()).source
