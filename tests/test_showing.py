"""How a trace shows itself: in a notebook, and at a prompt."""

import pytest

from gradtrace import api
from gradtrace.errors import EngineError
from gradtrace.formats import svg
from gradtrace.formats.base import FORMATS
from tests import builders

SVG, TEXT, MERMAID = "image/svg+xml", "text/plain", "text/vnd.mermaid"


@pytest.fixture
def trace():
    return api._trace(builders.trace())


def test_a_notebook_gets_a_picture_and_a_table(trace):
    bundle = trace._repr_mimebundle_()
    assert set(bundle) == {SVG, TEXT}
    assert bundle[SVG].startswith("<svg")
    assert "u**2 = 4" in bundle[TEXT]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ({TEXT}, None, {TEXT}),
        ([SVG], [], {SVG}),
        (None, {SVG}, {TEXT}),
        ({SVG, TEXT}, {TEXT}, {SVG}),
        ({"text/html"}, None, set()),
        ({MERMAID}, None, {MERMAID} if "mermaid" in FORMATS else set()),
    ],
)
def test_include_and_exclude_are_honoured(trace, include, exclude, expected):
    assert set(trace._repr_mimebundle_(include, exclude)) == expected


def test_what_asks_for_html_gets_the_picture_as_a_part_of_its_page_unless_it_is_ipython(trace, monkeypatch):
    assert "∂f/∂v = 50</text>" in trace._repr_html_()
    assert "prefers-color-scheme:dark" in trace._repr_html_()
    monkeypatch.setattr("builtins.get_ipython", object, raising=False)
    assert not hasattr(trace, "_repr_html_")


def fail(*_):
    raise EngineError("no Graphviz here")


def test_without_an_engine_the_table_is_left(trace, monkeypatch):
    monkeypatch.setattr(svg, "draw", fail)
    assert set(trace._repr_mimebundle_()) == {TEXT}
    assert "u**2 = 4" in trace._repr_mimebundle_()[TEXT]
    assert trace._repr_html_().startswith("<pre>")


@pytest.mark.parametrize("wrong", [5, object(), True])
def test_it_never_raises(trace, monkeypatch, wrong):
    assert SVG in trace._repr_mimebundle_(include=wrong)
    assert SVG in trace._repr_mimebundle_(exclude=wrong)
    empty = api.Trace(1)
    assert "no backward pass was recorded" in empty._repr_mimebundle_()[TEXT]
    monkeypatch.setattr(svg, "draw", fail)
    assert "no Graphviz here" in trace._repr_mimebundle_(include={SVG})[TEXT]


def test_one_of_several_passes_can_be_chosen(trace):
    assert trace.bundle(number=1) == trace.bundle()
    assert "unknown pass 7" in trace.bundle(number=7)[TEXT]


def test_at_a_prompt_it_is_one_line(trace):
    assert repr(trace) == "<gradtrace.Trace of partials.py: 1 pass, 8 nodes>"
    assert len(repr(api.Trace(1)).splitlines()) == 1
