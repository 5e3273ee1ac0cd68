import re

from hypothesis import strategies as st

from gradtrace.fold import View
from gradtrace.formats.base import FORMATS, Style
from gradtrace.formats.markdown import render as markdown
from gradtrace.formats.mermaid import render
from gradtrace.model import BackwardPass
from tests import builders
from tests.formats.test_pictures import dense
from tests.sweeps import sweep

# Every line of a flowchart that we write: nothing of a script's text can begin another kind of statement.
TEXT = r"[\w\s#;→×‖∂…–,.]*(<br/>[\w\s#;→×‖∂…–,.]*)*"
LINE = re.compile(
    rf'flowchart TD|  %% .*|  b\d+(\["{TEXT}"\]|\(\["{TEXT}"\]\)|\[\["{TEXT}"\]\])|  b\d+ -->\|"{TEXT}"\| b\d+'
    r"|  (style b\d+|linkStyle \d+) [\w:#,-]+"
)


def test_every_node_and_every_edge_of_a_small_pass_is_in_it():
    text = render(builders.report(), Style())
    assert len(re.findall(r"-->", text)) == 9
    assert len(re.findall(r"^  b\d+[\[(]", text, re.MULTILINE)) == 8
    assert all(LINE.fullmatch(line) for line in text.splitlines())
    assert FORMATS.for_suffix("x.mmd").name == "mermaid"


def test_it_keeps_mermaids_limits_by_folding_further():
    nodes = [builders.function(f"n{i}", f"Op{i}Backward0", "x" * 40, 1.0, order=i) for i in range(300)]
    edges = [builders.edge(f"n{i}", f"n{j}", 1.0) for i in range(300) for j in range(i + 1, min(300, i + 9))]
    wide = BackwardPass(1, "backward", tuple(nodes), tuple(edges))
    for graph in (wide, dense(300)):
        text = render(builders.report(graph), Style(view=View(max_nodes=1000, full=True)))
        assert text.count("-->") <= 500
        assert len(text) <= 50_000
        assert text.count("-->") > 5


@sweep(20, 80, st.text(max_size=12) | st.text('"`<>[](){}|;#&%\\\n-=:', max_size=12))
def test_nothing_of_a_script_is_read_as_mermaid(text):
    node = builders.function("n0", "XBackward0", text, 1.0, order=0)
    leaf = builders.leaf("n1", text, 1.0, 1.0)
    graph = BackwardPass(1, "backward", (node, leaf), (builders.edge("n0", "n1", 1.0),))
    lines = render(builders.report(graph), Style()).splitlines()
    assert len(lines) == 8
    for line in lines:
        assert not re.search(r'"[^"]*[<>`|\[\]{}()][^"]*"', line.replace("<br/>", " "))


def test_markdown_is_a_table_and_the_same_picture():
    text = markdown(builders.report(), Style())
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(builders.partials().nodes)
    assert all(row.count("|") == 5 for row in rows)
    assert text.endswith("```mermaid\n" + render(builders.report(), Style()) + "```\n")


def test_a_pipe_in_the_code_does_not_break_the_table():
    node = builders.function("n0", "XBackward0", "a | b", 1.0, order=0)
    graph = BackwardPass(1, "backward", (node,))
    (row,) = [
        line
        for line in markdown(builders.report(graph), Style()).splitlines()
        if "XBackward0" in line and line[0] == "|"
    ]
    assert row.count("|") == 5
