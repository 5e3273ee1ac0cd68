"""Any text that a script or a trace holds: what comes out is well-formed, and shows what can't be shown.

The real readers judge: a strict XML parser, Graphviz, a Markdown parser, pdflatex, Mermaid (test_mermaid_browser.py).
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import unicodedata
from xml.etree import ElementTree as ET

import msgspec
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradtrace.checks.checker import run
from gradtrace.engine import draw
from gradtrace.explain.explanation import explain
from gradtrace.explain.formats.base import EXPLANATIONS
from gradtrace.explain.formulas import pinned
from gradtrace.formats.base import FORMATS, Style
from gradtrace.formats.github import as_github
from gradtrace.formats.sarif import About, as_sarif
from gradtrace.formats.svg import NAMESPACE
from gradtrace.model import Report
from gradtrace.recording.recorder import Options
from gradtrace.recording.replay.taped_recorder import TapedRecorder
from gradtrace.tracefile import dumps, loads
from gradtrace.wording.findings import as_text
from gradtrace.wording.quoting import (
    escaped,
    github_text,
    markdown_text,
    mermaid_text,
    one_line,
    tex_text,
    visible,
)
from tests.hostile import HOSTILE, trace_of
from tests.sweeps import sweep

# All of Unicode, surrogates included: file names hold them.
ANY = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(HOSTILE)


def is_seen(text):
    """Tell whether nothing in a text hides, moves a cursor or turns the direction of reading."""
    return all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"} or c == "\n" for c in text)


def drawn(text, name, **style):
    """The trace of a text in a format."""
    whole = trace_of(text)
    report = Report(whole, whole.passes[0], run(whole))
    found = FORMATS[name].function(report, Style(**style))
    return found if isinstance(found, str) else found.decode()


@sweep(75, 300, ANY)
@example("".join(map(chr, range(0x11000))))
@pytest.mark.parametrize(
    "function",
    [visible, one_line, escaped, lambda t: escaped(t, 2), mermaid_text, markdown_text, tex_text, github_text],
)
def test_what_a_function_returns_hides_nothing_and_can_be_written(function, text):
    assert is_seen(function(text))
    function(text).encode()


@given(ANY)
def test_text_for_graphviz_is_read_back_as_what_can_be_seen(text):
    assert ET.fromstring(f"<a>{escaped(text)}</a>").text in {visible(text).replace("\\", "\\\\"), None}


@given(ANY)
def test_text_for_markdown_is_read_as_that_text_alone(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"x{markdown_text(text)}x")
    found = re.fullmatch(r"<p>(.*)</p>\n", shown, re.DOTALL)
    assert found is not None
    assert html.unescape(found[1]) == f"x{one_line(text)}x"


@given(ANY)
def test_a_cell_of_markdown_stays_one_cell(text):
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"| a | b |\n|---|---|\n| {markdown_text(text)} | x |\n")
    assert shown.count("<td>") == 2
    assert "<td>x</td>" in shown


@sweep(3, 12, ANY)
@pytest.mark.parametrize("name", ["dot", "mermaid", "markdown", "text", "json"])
def test_each_format_shows_any_text(name, text):
    for full in (False, True):
        found = drawn(text, name, view=msgspec.structs.replace(Style().view, full=full))
        found.encode()
        assert is_seen(found.replace("\t", "") if name == "dot" else found) or name == "json"


@sweep(4, 15, ANY)
def test_a_picture_of_any_text_is_strict_xml_that_shows_it(text):
    picture = drawn(text, "svg")
    assert is_seen(picture)
    root = ET.fromstring(picture)
    assert len(list(root.iter(f"{{{NAMESPACE}}}g"))) > 1
    if len(one_line(text)) in range(3, 9):
        assert one_line(text) in "".join(root.itertext())


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_each_hostile_text_is_drawn_in_all_formats(text):
    ET.fromstring(drawn(text, "svg"))
    ET.fromstring(drawn(text, "svg", link="https://host/{file}#L{line}", attributes=500, saved=True))
    draw(drawn(text, "dot"), "plain", "pygraphviz", 60)
    json.loads(drawn(text, "json"))
    assert is_seen(drawn(text, "tikz"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_findings_about_any_text_can_be_read_as_text_and_by_tools(text):
    whole = trace_of(text)
    findings = run(whole)
    assert findings
    assert is_seen(as_text(findings, 80, color=False))
    assert is_seen(as_github(findings, About({}, "")))
    json.loads(as_sarif(findings, About({}, "")))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_an_explanation_of_any_text_can_be_read(text):
    whole = trace_of(text)
    for name in EXPLANATIONS:
        found = EXPLANATIONS[name].function(explain(whole.passes[0], 1, pinned()), 80)
        found.encode()
        assert is_seen(found)


@given(ANY)
def test_a_trace_of_any_text_is_saved_and_loaded(text):
    whole = trace_of(text)
    kept = loads(dumps(whole))
    assert loads(dumps(kept)) == kept


@pytest.mark.latex
@pytest.mark.usefixtures("latex")
def test_latex_sets_any_text(tmp_path):
    lines = [rf"\noindent x{tex_text(text[:300])}x\par" for text in HOSTILE]
    lines += [rf"\noindent {tex_text(''.join(map(chr, range(at, at + 64))))}\par" for at in range(0, 0x400, 64)]
    assert_set_by_latex(lines, tmp_path)


@pytest.mark.latex
@pytest.mark.usefixtures("latex")
def test_latex_sets_the_equations_of_tensors_of_any_name(tmp_path):
    with TapedRecorder(Options(calls=True)) as recorder:
        x = torch.tensor(2.0, requires_grad=True)
        (x.sin() * x**3 / (x * 2)).backward()
    (graph,) = recorder.trace.passes
    lines = [as_latex(renamed(graph, text[:300])) for text in HOSTILE]
    assert all(r"\begin{align*}" in text for text in lines)
    assert_set_by_latex([r"\usepackage{amsmath}", *lines], tmp_path)


def renamed(graph, text):
    """A pass whose tensors have this name."""
    return msgspec.structs.replace(
        graph, nodes=tuple(msgspec.structs.replace(node, name=node.name and text) for node in graph.nodes)
    )


def as_latex(graph):
    """The explanation of a pass."""
    return EXPLANATIONS["latex"].function(explain(graph, 1, pinned()), 80)


def assert_set_by_latex(lines, folder):
    """Typeset these lines; those that load packages come first."""
    packages = [line for line in lines if line.startswith(r"\usepackage")]
    body = [line for line in lines if line not in packages]
    text = [r"\documentclass{article}", *packages, r"\begin{document}", *body, r"\end{document}"]
    (folder / "x.tex").write_text("\n".join(text))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
