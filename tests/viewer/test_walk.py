"""The page in a browser, walked through by click and by key."""

import re

import pytest
from msgspec.structs import replace
from playwright.sync_api import expect

from tests.builders import scalar, trace
from tests.viewer import networks

pytestmark = pytest.mark.browser

DETAILS = ".details h2"


@pytest.fixture
def partials(show):
    return show(trace())


@pytest.fixture
def blocks(show):
    return show(networks.trace(networks.blocks()))


def box(page, key):
    return page.locator(f'.picture .box[data-key="{key}"]')


def fold(page):
    return page.locator(".picture .folded").first


def test_every_node_and_number_of_a_small_pass_is_in_the_picture(partials):
    expect(partials.page.locator(".picture .box")).to_have_count(8)
    expect(box(partials.page, "n5")).to_contain_text("∂f/∂v = 50")
    assert sorted(partials.page.locator(".flow").all_text_contents()) == ["1", "1", "1", "1", "1", "2", "4", "4", "48"]


def test_a_click_chooses_a_node_and_lights_its_ways(partials):
    page = partials.page
    box(page, "n4").click()
    expect(page.locator(DETAILS)).to_have_text("PowBackward0")
    dim = page.locator(".box.dim").evaluate_all("all => all.map(one => one.dataset.key).sort()")
    assert dim == ["n2", "n6", "n7"]
    assert "node=n4" in partials.hash
    page.keyboard.press("Escape")
    expect(page.locator(".box.dim")).to_have_count(0)


def test_details_explain_the_chain_rule_in_numbers(show):
    page = show(networks.partials_run(1), "#node=n4").page
    details = page.locator(".details")
    for words in ("v**3", "1 × 48 = 48", "grad · 3 · v²", "exponent"):
        expect(details).to_contain_text(words)
    details.get_by_role("button", name="Choose n5, v").click()
    expect(details).to_contain_text("2 + 48 = 50")


def test_a_leaf_shows_what_its_grad_held_before_and_after(show):
    graph = networks.partials_run(1).passes[0]
    nodes = tuple(replace(node, accumulated=scalar(70.0)) if node.id == "n5" else node for node in graph.nodes)
    details = show(networks.trace(replace(graph, nodes=nodes)), "#node=n5").page.locator(".details")
    expect(details).to_contain_text("before: 20")
    expect(details).to_contain_text("after: 70")


def test_arrow_keys_walk_along_the_ways(partials):
    page = partials.page
    page.locator(".graph").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert re.search(r"node=n[23]", partials.hash)
    page.keyboard.press("ArrowUp")
    assert "node=n1" in partials.hash


def test_a_fold_opens_in_place_by_click_and_closes_again(blocks):
    page = blocks.page
    before = fold(page).bounding_box()
    key = fold(page).get_attribute("data-key")
    count = page.locator(".picture .box").count()
    fold(page).click(position={"x": 20, "y": 10})
    header = page.locator(f'.header[data-key="{key}"]')
    expect(header).to_be_visible()
    after = header.bounding_box()
    assert after["y"] == pytest.approx(before["y"], abs=2)
    middles = [place["x"] + place["width"] / 2 for place in (before, after)]
    assert middles[0] == pytest.approx(middles[1], abs=3)
    assert page.locator(".picture .box").count() > count
    assert f"open={key}" in blocks.hash
    header.click(position={"x": 20, "y": 10})
    expect(page.locator(".header")).to_have_count(0)
    assert page.locator(".picture .box").count() == count


def test_a_fold_opens_and_closes_by_key(blocks):
    page = blocks.page
    page.locator(".graph").first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
        if page.locator(".folded.chosen").count():
            break
    page.keyboard.press("Enter")
    expect(page.locator(".header")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".header")).to_have_count(0)


def test_what_is_open_does_not_overlap(blocks):
    page = blocks.page
    for _ in range(3):
        fold(page).evaluate("one => one.scrollIntoView()")
        page.keyboard.press("f")
        fold(page).click(position={"x": 5, "y": 3})
    rects = page.locator(".picture .box .card").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().toJSON())"
    )
    for i, one in enumerate(rects):
        for two in rects[i + 1 :]:
            apart = one["right"] <= two["left"] + 1 or two["right"] <= one["left"] + 1
            assert apart or one["bottom"] <= two["top"] + 1 or two["bottom"] <= one["top"] + 1


def test_everything_unfolds_and_folds_again(blocks):
    page = blocks.page
    page.keyboard.press("u")
    expect(page.locator(".picture .box.folded")).to_have_count(0)
    assert "all=true" in blocks.hash
    page.get_by_role("button", name="Unfold").click()
    expect(page.locator(".picture .box.folded").first).to_be_visible()


def test_the_address_shows_a_colleague_the_same(show):
    seen = show(networks.trace(networks.blocks()), "#node=n30&tab=source&find=nan")
    page = seen.page
    expect(page.locator(".lines .row.here")).to_have_attribute("data-number", re.compile(r"\d+"))
    expect(page.locator("input[type=search]")).to_have_value("nan")
    expect(page.locator(".picture .chosen")).to_have_count(1)
    assert page.locator('[role="tab"][aria-selected="true"]').all_text_contents()[1] == "Source"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("op:op3", 24),
        ("module:model.h.2", 8),
        ("net.py:11", 24),
        ("leaf", 72),
        ("op:op3 nan", 6),
        ("norm<0.15 leaf", 3),
        ("op:op3 -nan", 18),
    ],
)
def test_the_search_knows_its_words(blocks, query, count):
    page = blocks.page
    page.keyboard.press("/")
    page.keyboard.type(query)
    status = page.locator(".nodes [role=status]")
    expect(status).to_contain_text(re.compile(rf"^{count} of"))
    page.keyboard.press("Enter")
    assert "node=n" in blocks.hash


def test_j_and_k_go_through_the_list(partials):
    page = partials.page
    page.keyboard.press("n")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert "node=n1" in partials.hash
    page.keyboard.press("k")
    assert "node=n0" in partials.hash


def test_a_module_leads_to_its_box(blocks):
    page = blocks.page
    page.keyboard.press("m")
    page.get_by_role("button", name="Go to model.h.3", exact=True).click()
    assert "node=" in blocks.hash
    for column in ("grad", "params", "time", "saved"):
        page.get_by_role("button", name=f"Sort by {column}").click()
        expect(page.locator("th[aria-sort=descending]")).to_have_text(column)


def test_a_finding_leads_to_its_node_by_click_and_by_key(show):
    seen = show(networks.trace(networks.blocks()), "#side=findings")
    page = seen.page
    first = page.locator(".finding").first
    expect(first).to_be_visible()
    first.click()
    assert "node=n" in seen.hash
    expect(page.locator(".details .alert").first).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("!")
    assert "node=n" in seen.hash


def test_a_line_shows_its_nodes_and_a_node_its_line(blocks):
    page = blocks.page
    page.keyboard.press("t")
    row = page.locator('.lines .row.live[data-number="12"]')
    row.click()
    expect(page.locator(".nodes [role=status]")).to_contain_text("24 of")
    expect(row).to_have_class(re.compile("here"))
    page.locator(".node").first.click()
    expect(page.locator(".lines u").first).to_be_visible()


def test_zoom_holds_the_point_under_the_pointer(partials):
    page = partials.page
    place = box(page, "n5").bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(80)
    now = box(page, "n5").bounding_box()
    assert now["width"] > place["width"] * 1.2
    assert now["x"] + now["width"] / 2 == pytest.approx(x, abs=2)
    assert now["y"] + now["height"] / 2 == pytest.approx(y, abs=2)


def test_a_drag_moves_and_chooses_nothing(partials):
    page = partials.page
    place = box(page, "n1").bounding_box()
    page.mouse.move(place["x"] + 30, place["y"] + 20)
    page.mouse.down()
    page.mouse.move(place["x"] + 90, place["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_timeout(80)
    now = box(page, "n1").bounding_box()
    assert (now["x"] - place["x"], now["y"] - place["y"]) == pytest.approx((60, 40), abs=2)
    assert "node=" not in partials.hash


def test_keys_zoom_pan_and_fit(partials):
    page = partials.page
    start = box(page, "n0").bounding_box()
    for key in ("+", "d", "s"):
        page.keyboard.press(key)
    page.wait_for_timeout(80)
    assert box(page, "n0").bounding_box() != start
    page.keyboard.press("f")
    page.wait_for_timeout(80)
    assert box(page, "n0").bounding_box() == pytest.approx(start, abs=1)


def test_the_minimap_is_there_when_the_graph_is_larger_than_the_window(blocks, partials):
    expect(partials.page.locator(".minimap")).to_be_hidden()
    blocks.page.keyboard.press("u")
    expect(blocks.page.locator(".minimap").first).to_be_visible()


def test_the_play_goes_through_the_pass_and_fills_the_leaves(partials):
    page = partials.page
    page.keyboard.press(" ")
    page.keyboard.press(" ")
    words = page.locator(".play .words")
    expect(words).to_contain_text("begins at f with the seed 1")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator('.box[data-mark="firing"]')).to_have_count(1)
    seen = []
    for _ in range(8):
        seen.append(box(page, "n5").locator(".gradient").text_content())
        page.keyboard.press("ArrowRight")
    assert "v: 2" in seen
    assert any("= 50" in text for text in seen)
    expect(words).to_contain_text("8 of 8")
    page.keyboard.press("Escape")
    expect(page.locator(".play")).to_be_hidden()
    expect(box(page, "n5").locator(".gradient")).to_have_text("∂f/∂v = 50")


def test_the_slider_goes_to_a_step_and_play_runs_by_itself(partials):
    page = partials.page
    page.locator(".tools").get_by_role("button", name="Play").click()
    page.get_by_label("Speed").select_option("very fast")
    page.get_by_label("Step of the backward pass").fill("4")
    expect(page.locator(".play .words")).to_contain_text(re.compile(r"[5-8] of 8"))
    expect(page.locator(".play .words")).to_contain_text("8 of 8", timeout=4000)


def test_numbers_are_hidden_until_clicked(partials):
    page = partials.page
    page.keyboard.press("x")
    page.keyboard.press("End")
    text = box(page, "n0").locator(".gradient")
    assert text.evaluate("one => getComputedStyle(one).opacity") == "0"
    box(page, "n0").click()
    assert text.evaluate("one => getComputedStyle(one).opacity") == "1"


def test_passes_are_gone_through_by_key_button_and_click(show):
    seen = show(networks.partials_run(6))
    page = seen.page
    expect(page.locator(".passes .where")).to_have_text("pass 6 of 6")
    page.keyboard.press("[")
    expect(box(page, "n5")).to_contain_text("= 10")
    page.get_by_role("button", name="Previous pass").click()
    expect(page.locator(".passes .where")).to_have_text("pass 4 of 6")
    canvas = page.locator(".passes canvas")
    place = canvas.bounding_box()
    canvas.click(position={"x": 8, "y": place["height"] / 2})
    expect(page.locator(".passes .where")).to_have_text("pass 1 of 6")
    expect(box(page, "n5")).to_contain_text("= 50")
    canvas.hover(position={"x": place["width"] * 0.24, "y": place["height"] - 20})
    expect(page.locator(".passes .told")).to_contain_text("u not finite")


def test_two_passes_are_compared_side_by_side(show):
    seen = show(networks.partials_run(3))
    page = seen.page
    page.keyboard.press("p")
    expect(page.locator(".second")).to_be_visible()
    expect(page.locator(".second > .note")).to_contain_text("most different: v")
    assert page.locator('.second .box[data-key="n5"]').get_attribute("data-mark") == "differs3"
    assert page.locator('.second .box[data-key="n7"]').get_attribute("data-mark") == "differs0"
    page.locator('.second .box[data-key="n7"]').click()
    expect(page.locator(".chosen")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator(".second")).to_be_hidden()


def test_help_lists_the_keys(partials):
    page = partials.page
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("fit the graph into the window")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_light_and_dark_follow_the_system_and_the_button(show):
    seen = show(trace(), color_scheme="dark")
    page = seen.page
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(13, 17, 23)"
    page.keyboard.press("l")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
