"""The terminal's table: one line per node, nothing wrapped, nothing hidden."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from rich.text import Text

from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import BackwardPass, ErrorInfo, Finding, Node, Report, TensorStats
from tests.builders import edge, function, leaf, line, partials, report, scalar, trace

BARS = " ▏▎▍▌▋▊▉█"


def draw(graph=None, **style):
    return FORMATS["text"].function(report(graph), Style(**style))


def rows(text):
    """The lines of the nodes, by id."""
    return {found[1]: row for row in text.splitlines() if (found := re.match(r"\W*(n\d+)\b", row))}


def one(grad, **more):
    """The line of a node with this gradient, beside one with a gradient of 1."""
    node = replace(function("n0", "MulBackward0", "u*v", 8.0, order=0), grads=(grad,), **more)
    graph = BackwardPass(1, "backward", (node, leaf("n1", "x", 1.0, 1.0)), (edge("n0", "n1", 1.0),))
    return rows(draw(graph))["n0"]


def bar(row):
    """The length of the bar in a line, in eighths."""
    return sum(BARS.index(c) for c in row if c in BARS[1:])


def test_there_is_one_line_per_node_in_backward_order():
    assert list(rows(draw())) == [node.id for node in partials().nodes]


def test_a_line_tells_op_expression_value_gradient_targets_and_place():
    row = rows(draw())["n4"]
    assert [part for part in re.split(r"\s{2,}", row) if part not in BARS] == [
        "n4",
        "PowBackward0",
        "v**3 = 64",
        "1",
        "→ v 48",
        "partials.py:6",
    ]


def test_a_function_that_the_gradient_flows_to_is_named_with_its_id():
    assert "→ AddBackward0 (n3) 1, MulBackward0 (n2) 1" in rows(draw())["n1"]


def test_leaves_and_outputs_stand_under_their_names():
    found = rows(draw())
    assert "output" in found["n0"]
    assert "f = 76" in found["n0"]
    assert "leaf" in found["n7"]
    assert "u = 2" in found["n7"]


def test_the_title_tells_the_call_its_line_and_the_size():
    title = draw().splitlines()[0]
    assert title == "f.backward() · partials.py:8 · 8 nodes, 9 edges"


def test_the_title_tells_which_of_several_passes_it_is():
    first, second = partials(), replace(partials(), index=2, kind="seeded", call=None, parent=1)
    title = FORMATS["text"].function(Report(trace(first, second), second), Style()).splitlines()[0]
    assert "pass 2 of 2" in title
    assert "seeded by gradtrace" in title
    assert "inside pass 1" in title


def test_a_larger_gradient_has_a_longer_bar():
    lengths = {node.id: (node.grads[0].norm, bar(rows(draw())[node.id])) for node in partials().nodes}
    ordered = [length for _, length in sorted(lengths.values())]
    assert ordered == sorted(ordered)
    assert len(set(ordered)) == len({norm for norm, _ in lengths.values()})


def test_the_smallest_gradient_still_has_a_bar():
    assert all(bar(row) for row in rows(draw()).values())


def test_no_gradient_zero_and_not_finite_are_three_different_looks():
    looks = [one(grad, order=0).split("= 8")[1].split("→")[0].split() for grad in (None, scalar(0.0), scalar(None))]
    assert looks[0] == ["none"]
    assert looks[1] == ["0", "·"]
    assert looks[2][0] == "nan"
    assert set(looks[2][1]) == {"✗"}


def test_an_infinity_beside_a_finite_gradient_is_not_overlooked():
    graph = BackwardPass(
        1, "backward", (Node("n0", "function", "X", grads=(scalar(9.0), TensorStats((3,), inf=1)), order=0),)
    )
    assert "✗" in rows(draw(graph))["n0"]


def test_a_node_that_never_ran_says_so():
    assert "never ran" in one(None, order=None)


def test_the_failing_node_is_marked_and_the_error_told_below():
    graph = replace(partials(), error=ErrorInfo("RuntimeError", "freed", line("f.backward()", 8), "n4"))
    text = draw(graph)
    assert [row for row in rows(text).values() if row.startswith("✗")] == [rows(text)["n4"]]
    assert text.splitlines()[-1] == "✗ RuntimeError: freed (at n4, partials.py:8)"


def test_a_failing_node_whose_gradient_is_unknown_is_not_said_to_have_never_run():
    nodes = (replace(function("n0", "PowBackward0", "x**2", 9.0), grads=(None,), order=None),)
    graph = BackwardPass(1, "backward", nodes, error=ErrorInfo("RuntimeError", "freed", None, "n0"))
    assert "failed" in rows(draw(graph))["n0"]
    assert "never ran" not in draw(graph)


def test_an_error_that_ended_pass_and_script_is_told_once():
    error = ErrorInfo("RuntimeError", "freed")
    graph = replace(partials(), error=replace(error, node="n4"))
    text = FORMATS["text"].function(Report(replace(trace(graph), error=error), graph), Style())
    assert text.count("RuntimeError") == 1


def test_findings_are_listed_with_their_hint():
    finding = Finding("dead-leaf", "warning", "u received zero", "look at u", ("n7",), line("u*v"))
    text = FORMATS["text"].function(Report(trace(), partials(), (finding,)), Style())
    assert text.splitlines()[-1] == "! dead-leaf: u received zero (n7, partials.py:6); look at u"


wild = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=60)


@given(wild, wild, wild, st.integers(30, 200), st.booleans())
def test_no_line_is_wider_than_asked_whatever_the_script_holds(name, op, text, width, color):
    long = function("n0", op, text, 8.0, order=0, name=name, module=name)
    graph = BackwardPass(1, "backward", (long, leaf("n1", name, 1.0, 1.0)), (edge("n0", "n1", 1.0),), line(text))
    drawn = draw(graph, width=width, color=color)
    plain = Text.from_ansi(drawn.rstrip("\n")).plain if color else drawn
    lines = plain.split("\n")
    assert max(map(cell_len, lines)) <= width
    assert len(rows(plain)) == 2
    if not color:
        assert all(c.isprintable() for row in lines for c in row)
        assert [row for row in lines if row != row.rstrip()] == []


@pytest.mark.parametrize("width", [80, 100, 140])
def test_where_it_fits_nothing_is_shortened(width):
    assert "…" not in draw(width=width)


def test_a_narrow_table_names_by_id_what_it_has_no_room_for_and_keeps_small_values():
    nodes = (
        function("n0", "MmBackward0", "attention(query, key, value)", 8.0, order=0),
        replace(leaf("n1", "transformer.h.0.attn.weight", 1.0, 1.0), grads=(TensorStats((2,), norm=5, values=[3, 4]),)),
    )
    drawn = rows(draw(BackwardPass(1, "backward", nodes, (edge("n0", "n1", 1.0),)), width=90))
    assert re.search(r"→ n1 1\b", drawn["n0"])
    assert "[3, 4]" in drawn["n1"]


def test_a_narrow_table_keeps_both_ends_of_an_expression_and_its_value():
    long = function("n0", "MmBackward0", "first_operand" + " + x" * 40 + " + last", 8.0, order=0)
    row = rows(draw(BackwardPass(1, "backward", (long,)), width=80))["n0"]
    assert re.search(r"first_operand.*….*last = 8", row)


def test_markup_and_control_characters_of_the_script_are_shown_and_not_obeyed():
    row = one(scalar(1.0), source=line("f('[bold]', '\x1b[31m',\n    1)"), order=0)
    assert r"f('[bold]', '\x1b[31m', 1)" in row


def test_colour_changes_no_letter():
    assert Text.from_ansi(draw(color=True, width=100).rstrip("\n")).plain == draw(width=100).rstrip("\n")
    assert "\x1b" not in draw()


def test_more_rows_than_asked_are_counted():
    text = draw(rows=3)
    assert list(rows(text)) == ["n0", "n1", "n2"]
    assert "… 5 more" in text


def test_a_large_pass_has_all_its_lines():
    nodes = tuple(function(f"n{i}", "MulBackward0", "u*v", float(i), order=i) for i in range(5000))
    assert len(rows(draw(BackwardPass(1, "backward", nodes), width=80))) == 5000


def test_an_empty_pass_is_only_a_title():
    assert draw(BackwardPass(1, "grad")).splitlines()[0] == "grad · 0 nodes, 0 edges"
