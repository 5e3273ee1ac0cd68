"""The local derivative on the edges of scalars: each label is an equation, and Python agrees with it."""

import math
import re

import pytest
import torch

import gradtrace
from gradtrace.api import report_of, select
from gradtrace.drawing.digraph import digraph
from gradtrace.drawing.slopes import slope
from gradtrace.drawing.style import Style
from tests import builders

PLAIN = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
KNOWN = {"exp": math.exp, "sin": math.sin, "cos": math.cos, "sqrt": math.sqrt}


def evaluated(text):
    """What Python makes of ``3·4²`` or ``1/(2·√2)``."""
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: f"**({found[0].translate(PLAIN)})", text)
    text = re.sub(r"√([\d.e+-]+)", r"sqrt(\1)", text).replace("·", "*").replace("^", "**")
    return eval(text, {"__builtins__": {}}, KNOWN)


def slopes(make):
    with gradtrace.record() as recording:
        u, v = torch.tensor(2.0, requires_grad=True), torch.tensor(-0.4, requires_grad=True)
        make(u, v).backward()
    graph = recording.trace.passes[-1]
    return [text for edge in graph.edges if (text := slope(edge, graph))]


@pytest.mark.parametrize(
    "make",
    [
        lambda u, v: u**3 + v**2,
        lambda u, v: u**-2 * v,
        lambda u, v: u**0.5 - v,
        lambda u, v: u * v / (u - v),
        lambda u, v: torch.sin(u) * torch.cos(v),
        lambda u, v: torch.exp(v) / torch.log(u),
        lambda u, v: torch.tanh(u) * torch.sigmoid(v) - u.sqrt() * 3,
        lambda u, v: (-u).erf() * torch.atan2(u, v),
    ],
)
def test_each_label_is_an_equation_that_holds(make):
    found = slopes(make)
    assert len(found) >= 2
    for text in found:
        sent, product = text.split(" = ")
        assert evaluated(product) == pytest.approx(float(sent), rel=2e-3)


def test_the_chain_rule_is_in_the_first_picture():
    dot = digraph(builders.report()).source
    assert "<td>48 = 1 · 3·4²</td>" in dot
    assert "<td>2 = 1 · 2</td>" in dot
    assert "1 = 1" not in dot


def test_it_can_be_left_out_and_is_where_the_pass_is_none_of_scalars():
    assert "3·4²" not in digraph(builders.report(), Style(slopes=False)).source
    with gradtrace.record() as recording:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        (w.sum() ** 2).backward()
    report = report_of(recording.trace, select(recording.trace))
    assert " · " not in "".join(re.findall(r"<td>([^<]*)</td></tr></table>> class", digraph(report).source))
    assert "6 = 1 · 2·3" in digraph(report, Style(slopes=True)).source
