"""One browser for a session, and a page in it that may ask for nothing."""

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from gradtrace import tracefile
from gradtrace.formats.base import FORMATS, Style
from gradtrace.model import Report


@cache
def _page(data):
    trace = tracefile.loads(data)
    return FORMATS["html"].function(Report(trace, trace.passes[-1]), Style())


READY = "html[data-ready]"


@pytest.fixture(scope="session")
def browser():
    """Chromium, driven by Playwright; where it must be (in CI) and is not, that is a failure."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - needed by few tests

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


class Seen:
    """A page in the browser: its locators, and what went wrong in it."""

    def __init__(self, page, address):
        self.page, self.address, self.troubles, self.asked = page, address, [], []
        page.on("console", lambda message: self.troubles.append(message.text))
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.route("**/*", self._route)

    def _route(self, route):
        if route.request.url.split("#")[0] == self.address:
            route.continue_()
        else:
            self.asked.append(route.request.url)
            route.abort()

    def goto(self, address=""):
        self.page.goto("about:blank")
        self.page.goto(self.address + address)
        self.page.wait_for_selector(READY, state="attached")
        return self.page

    @property
    def hash(self):
        return self.page.evaluate("location.hash")


@pytest.fixture
def show(browser, tmp_path):
    """Show a trace in the browser; the test fails if the page says an error or asks for anything."""
    opened = []

    def shown(trace, address="", **options):
        file = tmp_path / f"page{len(opened)}.html"
        file.write_text(_page(tracefile.dumps(trace)), encoding="utf-8")
        settings = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce", **options}
        seen = Seen(browser.new_page(**settings), Path(file).as_uri())
        opened.append(seen)
        seen.goto(address)
        return seen

    yield shown
    for seen in opened:
        seen.page.close()
        assert seen.troubles == []
        assert seen.asked == []
