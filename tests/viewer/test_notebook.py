"""The page in a frame of a notebook."""

import re

import pytest
from playwright.sync_api import expect

from gradtrace import api
from tests.builders import trace
from tests.viewer.networks import partials_run


def as_trace(found):
    return api._trace(found)


def test_a_trace_has_a_view_for_notebooks():
    page = as_trace(partials_run(2)).view(height=321)
    shown = page._repr_html_()
    assert shown.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in shown
    assert "height:321px" in shown
    assert "<script" not in shown
    assert repr(page) == f"<gradtrace page of partials.py, {len(page.html):,} characters>"


@pytest.mark.browser
def test_the_frame_works_without_an_address_of_its_own(browser, tmp_path):
    file = tmp_path / "notebook.html"
    file.write_text(f"<!doctype html><title>notebook</title>{as_trace(trace()).view().frame()}", encoding="utf-8")
    page = browser.new_page()
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(file.as_uri())
    frame = page.frame_locator("iframe")
    frame.locator('.box[data-key="n5"]').click()
    expect(frame.locator(".details h2")).to_have_text(re.compile("^v$"))
    assert troubles == []
    page.close()
