"""Hostile traces do nothing, nobody is kept out, and the page says numbers as gradtrace does."""

import json
import math
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from playwright.sync_api import expect

from gradtrace.model import BackwardPass, Edge, ModuleCall, Node, Source, TensorStats
from gradtrace.wording.numbers import number, stats
from tests.builders import partials, scalar, trace
from tests.viewer import networks

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "build" / "axe.min.js"
BAD = "</script></title><script>window.hurt = 1</script><img src=x onerror=window.hurt=1>&lt;b&gt;\"'` ${x} \\ \u2028"


def hostile():
    """A pass in which every text is markup."""
    source = Source(BAD, 3, 3, 0, 9, BAD, BAD)
    nodes = (
        Node("n0", "output", "output", BAD, values=(scalar(2.0),), grads=(scalar(1.0),)),
        Node(
            "n1", "function", BAD, BAD, BAD, 0, source, source, (scalar(1.0),), (scalar(1.0),), (), {BAD: BAD}, 0, 0.1
        ),
        Node("n2", "leaf", "AccumulateGrad", BAD, grads=(TensorStats((2,), BAD, BAD, note=BAD),), order=1),
    )
    edges = (Edge("n0", "n1", 0, 0, scalar(1.0)), Edge("n1", "n2", 0, 0, scalar(1.0)))
    return BackwardPass(1, "backward", nodes, edges, source, calls=(ModuleCall(BAD, BAD),))


def test_markup_in_names_is_text(show):
    seen = show(replace(networks.trace(hostile()), command=(BAD, BAD)), "#node=n1&tab=source")
    page = seen.page
    for key in ("m", "n", "e", "t", "u", " ", "ArrowRight", "ArrowRight", "?"):
        page.keyboard.press(key)
    expect(page.get_by_text("window.hurt").first).to_be_attached()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img, #app script").count() == 0


BROKEN = (
    "#node=%3Cimg%20src=x%20onerror=hurt=1%3E",
    "#pass=99&node=n999&open=a,b&step=-5",
    "#%%%=&=&pass=1e9",
    "#__proto__=1&constructor=2",
)


@pytest.mark.parametrize("address", BROKEN)
def test_a_broken_address_shows_the_pass_all_the_same(show, address):
    page = show(trace(), address).page
    expect(page.locator(".picture .box")).to_have_count(8)
    assert page.evaluate("window.hurt") is None


def test_names_of_ten_million_letters_are_cut(show):
    graph = partials()
    long = "x" * 10_000_000
    nodes = (*graph.nodes[:-1], replace(graph.nodes[-1], name=long))
    page = show(trace(replace(graph, nodes=nodes))).page
    expect(page.locator(".picture .box")).to_have_count(8)
    assert page.locator(".picture svg, .picture text").first.evaluate("one => one.textContent.length") < 200


ADDRESSES = ("", "#node=n4&tab=source", "#step=3&side=nodes&find=mul", "#side=modules&beside=1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_axe_finds_nothing_to_complain_of(show, address, scheme):
    run = trace() if "node" in address else networks.partials_run(3)
    assert complaints(show(run, address, color_scheme=scheme)) == []


def test_axe_finds_nothing_in_a_large_pass_on_a_telephone(show):
    telephone = {"width": 360, "height": 740}
    run = networks.trace(networks.blocks())
    assert complaints(show(run, "#panel=list&side=modules", viewport=telephone)) == []


def complaints(seen):
    """What axe-core finds in a page, each rule with where."""
    if not AXE.exists():
        pytest.skip("needs axe-core: make axe")
    seen.page.evaluate(AXE.read_text(encoding="utf-8"))
    found = seen.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(each["id"], [node["html"][:150] for node in each["nodes"]]) for each in found["violations"]]


@pytest.mark.parametrize("panel", ["graph", "list", "details"])
def test_nothing_is_wider_than_a_telephone(show, panel):
    page = show(networks.trace(networks.blocks()), f"#panel={panel}", viewport={"width": 360, "height": 740}).page
    wide = """[...document.querySelectorAll("#app *")].filter(one => one.checkVisibility()
        && !one.closest("svg, .lines, .unseen") && one.getBoundingClientRect().right > 361)"""
    assert page.evaluate(f"{wide}.map(one => one.outerHTML.slice(0, 80))") == []


def test_the_page_writes_numbers_as_gradtrace_does(show):
    """The page words numbers by itself, for it has to add them up; the words must be those of the pictures."""
    xs = [
        0.0,
        1.0,
        -2.5,
        0.1,
        1e-7,
        -1.23456e-5,
        123.456,
        999.96,
        1000.0,
        12345.678,
        999999.4,
        1e6,
        1.5e9,
        3.0e-310,
        50.0,
    ]
    tensors = [
        None,
        scalar(3.0),
        scalar(None),
        TensorStats((64, 256), norm=0.0312),
        TensorStats((3,), values=[1.0, -0.5, 0.0], norm=1.118, zeros=1 / 3),
        TensorStats((16,), values=[k / 7 for k in range(16)], norm=5.0),
        TensorStats((2, 2), values=[[1.0, None], [0.0, 2.0]], norm=2.2, nan=1),
        TensorStats((9, 9), norm=1.0, inf=3),
        TensorStats((9, 9), norm=1.0, inf=3, nan=2),
        TensorStats((4,), norm=0.0, zeros=1.0, min=0.0, max=0.0),
        TensorStats((0, 3)),
        TensorStats((5,), "complex64", note="complex"),
        TensorStats((), values=True),
    ]
    page = show(trace()).page
    handed = json.loads(msgspec.json.encode(tensors))
    told = page.evaluate("([xs, all]) => [xs.map(gradtrace.number), all.map(gradtrace.stats)]", [xs, handed])
    assert told == [[number(x) for x in xs], [stats(each) for each in tensors]]
    assert math.isfinite(page.evaluate("gradtrace.share([1e-3, 1], 0.1)"))


def test_a_hundred_thousand_nodes_are_searched_at_once(show):
    page = show(trace()).page
    found = page.evaluate(
        """() => {
          const node = (at) => ({
            id: `n${at}`, kind: "function", op: `Op${at % 50}Backward0`, module: `model.h.${at % 12}`,
            source: {filename: "net.py", line: at % 300, text: `step${at}(x)`},
            grads: [{shape: [4], norm: 1 / (at + 1)}],
          });
          const nodes = Array.from({length: 100000}, (_, at) => node(at));
          const pass = new gradtrace.Pass({index: 1, nodes, edges: [], scale: [1e-5, 1]});
          const queries = ["op:op7", "step777", "net.py:12 norm<1e-4", "nan"];
          return queries.map((query) => gradtrace.search(pass, query).length);
        }"""
    )
    assert found == [2000, 111, 300, 0]
