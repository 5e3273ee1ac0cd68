"""The page of the server in a browser: views on demand, and a run that goes on."""

import re

import pytest
from playwright.sync_api import expect

from gradtrace import tracefile
from gradtrace.viewer import whole
from gradtrace.viewer.run import Run
from gradtrace.viewer.server import Server
from tests.builders import trace
from tests.viewer import networks

pytestmark = pytest.mark.browser


@pytest.fixture
def serve(browser):
    """Serve a run and open its page; the test fails if the page says an error or asks elsewhere."""
    opened = []

    def served(run):
        server, page = Server(run), browser.new_page(viewport={"width": 1280, "height": 800})
        troubles = []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(server.url) or troubles.append(asked.url))
        opened.append((server, page, troubles))
        page.goto(server.url)
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield served
    for server, page, troubles in opened:
        page.close()
        server.close()
        assert [words for words in troubles if not words.startswith("data:")] == []


def test_the_server_makes_the_views_of_folds_when_they_are_opened(serve):
    run = Run()
    run.grow(networks.trace(networks.blocks()))
    page = serve(run)
    page.locator(".picture .folded").first.click(position={"x": 20, "y": 10})
    expect(page.locator(".header")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator(".picture .folded")).to_have_count(0)


def test_new_passes_and_findings_appear_while_the_script_runs(serve):
    run = Run(live=True)
    page = serve(run)
    expect(page.locator(".status")).to_have_text("running")
    expect(page.locator(".graph .note").first).to_contain_text("first backward pass")
    run.grow(trace())
    expect(page.locator(".picture .box")).to_have_count(8)
    run.grow(networks.partials_run(3))
    expect(page.locator(".passes .where")).to_have_text("pass 3 of 3")
    expect(page.locator('.box[data-key="n5"]')).to_contain_text("16.67")
    page.locator('.box[data-key="n4"]').click()
    run.grow(networks.partials_run(5))
    expect(page.locator(".passes .where")).to_have_text("pass 3 of 5")  # where the reader looks, it stays
    run.end("ended")
    expect(page.locator(".status")).to_have_text("ended")


def test_two_traces_are_shown_side_by_side(serve, tmp_path):
    for name, count in (("before.json", 1), ("after.json", 2)):
        tracefile.save(networks.partials_run(count), tmp_path / name)
    run = Run()
    run.show([str(tmp_path / "before.json"), str(tmp_path / "after.json")], pytest.fail)
    page = serve(run)
    expect(page.locator("h1")).to_have_text("before.json · backward pass 1")
    expect(page.locator(".second")).to_be_visible()
    expect(page.locator(".second > .note")).to_contain_text(re.compile("most different: v"))


def test_what_has_no_room_in_the_file_is_said(show, monkeypatch):
    monkeypatch.setattr(whole, "ROOM", 2_000)
    run = networks.trace(networks.blocks(23))
    page = show(run).page
    expect(page.locator(".graph .note").first).to_contain_text("need gradtrace view")
    page.keyboard.press("u")
    expect(page.locator(".graph .note").first).to_contain_text("no room in the file")
    assert page.locator(".picture .box").count() > 0


def test_a_page_whose_server_has_ended_says_so(browser):
    run = Run()
    run.grow(networks.trace(networks.blocks()))
    server, page = Server(run), browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(server.url)
    page.wait_for_selector("html[data-ready]", state="attached")
    server.close()
    page.locator(".picture .folded").first.click(position={"x": 20, "y": 10})
    expect(page.locator(".graph .note").first).to_contain_text("has ended")
    page.close()
