import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import strategies as st

from gradtrace.drawing.palette import DARK
from gradtrace.formats.base import Style
from gradtrace.formats.svg import render
from gradtrace.model import BackwardPass
from gradtrace.wording.quoting import one_line
from tests import builders
from tests.sweeps import sweep

NS = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def source():
    return render(builders.report(), Style())


@pytest.fixture(scope="module")
def picture(source):
    return ET.fromstring(source)


def texts(picture):
    return [element.text for element in picture.iter(f"{NS}text")]


def lines(group):
    """Return the rows of a card: texts on one baseline are one row."""
    rows = {}
    for element in group.iter(f"{NS}text"):
        rows.setdefault(element.get("y"), []).append(element.text)
    return ["".join(row).strip() for row in rows.values()]


def test_each_card_shows_what_the_pass_holds(picture):
    cards = {group.get("data-id"): lines(group) for group in picture.iter(f"{NS}g") if "node" in group.get("class", "")}
    assert cards["n0"] == ["f = 76", "seed ∂f/∂f = 1"]
    assert cards["n1"] == ["AddBackward0", "u**2 + v**3 + u*v = 76", "grad 1", "partials.py:6"]
    assert cards["n5"] == ["v = 4", "∂f/∂v = 50"]
    assert cards["n7"] == ["u = 2", "∂f/∂u = 8"]
    assert len(cards) == len(builders.partials().nodes)


def test_each_edge_shows_the_gradient_that_flowed(picture):
    shown = {group.get("data-id"): lines(group) for group in picture.iter(f"{NS}g") if "edge" in group.get("class", "")}
    numbers = {ends: [text.partition(" = ")[0] for text in rows] for ends, rows in shown.items()}
    assert numbers == {f"{edge.source}->{edge.target}": [f"{edge.grad.values:g}"] for edge in builders.partials().edges}
    assert shown["n4->n5"] == ["48 = 1 · 3·4²"]


def test_it_says_in_words_what_it_shows(picture):
    words = "partials.py · backward pass: f = 76; ∂f/∂u = 8; ∂f/∂v = 50"
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == picture.findtext(f"{NS}desc") == words
    assert picture.findtext(f"{NS}title") == "partials.py · backward pass"


def test_a_node_has_a_tooltip_with_all_that_is_known(picture):
    group = next(group for group in picture.iter(f"{NS}g") if group.get("data-id") == "n1")
    assert group.findtext(f"{NS}title") == "AddBackward0\nu**2 + v**3 + u*v\npartials.py:6\nvalue 76\ngrad 1"


def test_it_carries_everything_itself_and_nothing_of_the_machine(source):
    assert not re.search(r"<script|<foreignObject|<image|href|@import|url\(|<!DOCTYPE|<!--", source)
    assert re.findall(r"https?://[^\"]*", source) == [NS.strip("{}")]


def test_two_on_one_page_do_not_clash(source):
    assert not re.search(r"\sid=", source)
    style = source.partition("<style>")[2].partition("</style>")[0]
    selectors = re.findall(r"^([^@{}\n]+)\{", style, re.MULTILINE)
    assert selectors
    assert all(selector.startswith(".gradtrace ") for selector in selectors)


def test_every_colour_in_it_has_another_on_a_dark_page(source, picture):
    used = {element.get(key) for element in picture.iter() for key in ("fill", "stroke")} - {None, "none"}
    assert used <= set(DARK)
    for color in used:
        assert f'="{color}"]{{' in source.partition("@media (prefers-color-scheme:dark)")[2]


def test_opened_alone_it_has_its_natural_size_and_scrolls_and_grows_with_the_zoom(picture):
    _, _, width, height = map(float, picture.get("viewBox").split())
    assert (picture.get("width"), picture.get("height")) == (f"{width:g}pt", f"{height:g}pt")
    assert picture.get("style") is None


def test_every_text_is_held_to_its_width_whatever_fonts_the_page_has(picture):
    assert all(float(text.get("textLength")) > 0 for text in picture.iter(f"{NS}text"))


def test_it_is_the_same_from_run_to_run(source):
    assert render(builders.report(), Style()) == source


def test_dot_of_another_hand_keeps_its_colours():
    source = render(builders.report(), Style(dot="digraph { u [style=filled, fillcolor=lightblue] u -> v }"))
    assert "lightblue" in source
    assert "<style>" not in source
    assert ET.fromstring(source).get("role") == "img"


@sweep(15, 60, st.text(min_size=1, max_size=4) | st.text(r"\&<>\"'NGEn;#x{|}", min_size=1, max_size=12))
def test_any_text_of_a_script_comes_out_as_it_went_in(text):
    node = builders.function("n0", "XBackward0", text, 1.0, order=0)
    leaf = builders.leaf("n1", text, 1.0, 1.0)
    graph = BackwardPass(1, "backward", (node, leaf), (builders.edge("n0", "n1", 1.0),))
    picture = ET.fromstring(render(builders.report(graph), Style()))
    shown = one_line(text)
    if shown:
        assert texts(picture).count(shown) == 2
        assert any(shown in title.text for title in picture.iter(f"{NS}title"))
