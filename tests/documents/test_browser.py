"""What a browser makes of the pictures in a page; chromium itself looks."""

import json
import os
import re
import shutil
import subprocess

import pytest

from gradtrace import tracefile
from gradtrace.drawing.page import Frame, inline
from gradtrace.drawing.palette import DARK, INK
from gradtrace.formats.base import FORMATS, Style
from tests import builders
from tests.integrations.projects import build, write

pytestmark = pytest.mark.browser

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOOK = """
const ink = () => getComputedStyle(document.querySelector('svg text[fill="INK"]')).fill;
const theme = name => { document.body.dataset.theme = name; return ink(); };
const svg = document.querySelector("svg"), box = svg.getBoundingClientRect();
const found = {
  width: box.width, height: box.height, asked: ink(), dark: theme("dark"), light: theme("light"),
  page: document.documentElement.scrollWidth, screen: innerWidth,
  pictures: document.querySelectorAll("svg").length,
  tooltips: [...svg.querySelectorAll("g.output > title, g.function > title, g.leaf > title")].map(t => t.textContent),
  boxes: svg.querySelectorAll("g.output, g.function, g.leaf").length,
  lines: [...svg.querySelectorAll("g[data-id*='->'] title")].map(t => t.textContent),
  find: window.find("∂f/∂v = 50"), selected: getSelection().toString(),
};
document.body.dataset.found = JSON.stringify(found);
""".replace("INK", INK)


@pytest.fixture(scope="module")
def chromium():
    """The browser; where it must be (in CI) and is not, that is a failure."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def picture():
    return str(FORMATS["svg"].function(builders.report(), Style()))


def look(chromium, folder, body, *flags):
    """What the browser says of a page with this in it."""
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><body>{body}<script>{LOOK}</script>", encoding="utf-8")
    return seen(chromium, page, *flags)


def seen(chromium, page, *flags):
    """What the browser says of a page that asks it."""
    folder = page.parent
    command = [chromium, *QUIET, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True)
    return json.loads(re.search(r'data-found="(.*?)"', done.stdout)[1].replace("&quot;", '"').replace("&gt;", ">"))


def rgb(color):
    return "rgb({}, {}, {})".format(*bytes.fromhex(color[1:]))


def test_a_picture_in_a_page_is_seen_found_selected_and_explains_itself(chromium, tmp_path, picture):
    found = look(chromium, tmp_path, 2 * inline(picture))
    assert found["pictures"] == 2
    assert found["width"] > 300
    assert found["height"] > 400
    assert found["find"]
    assert found["selected"] == "∂f/∂v = 50"
    assert len(found["tooltips"]) == found["boxes"] == len(builders.partials().nodes)
    assert any("grad 50" in words for words in found["tooltips"])
    assert len(found["lines"]) == len(builders.partials().edges)
    assert any(words.endswith("48") for words in found["lines"])


def test_a_picture_follows_its_page_from_light_to_dark_and_back(chromium, tmp_path, picture):
    found = look(chromium, tmp_path, inline(picture))
    assert (found["asked"], found["dark"], found["light"]) == (rgb(INK), rgb(DARK[INK]), rgb(INK))


def test_a_page_that_says_nothing_is_as_dark_as_the_system(chromium, tmp_path, picture):
    dark = "--blink-settings=preferredColorScheme=0"
    found = look(chromium, tmp_path, inline(picture), dark)
    assert (found["asked"], found["dark"], found["light"]) == (rgb(DARK[INK]), rgb(DARK[INK]), rgb(INK))
    never = look(chromium, tmp_path, inline(picture, Frame(dark=False)), dark)
    assert never["asked"] == rgb(INK)


def test_on_a_phone_a_picture_stays_legible_and_the_page_does_not_scroll_sideways(chromium, tmp_path, picture):
    narrow = f'<div style="width:200px"><div style="overflow-x:auto">{inline(picture)}</div></div>'
    found = look(chromium, tmp_path, narrow)
    assert found["page"] <= found["screen"]
    own = float(re.search(r'width="([\d.]+)pt"', picture)[1]) * 4 / 3
    assert 0.6 * own < found["width"] < own


def test_a_page_that_sphinx_built_has_pictures_to_find_select_and_scroll(chromium, tmp_path):
    tracefile.save(builders.trace(), tmp_path / "saved.json")
    write(tmp_path, ".. gradtrace:: saved.json\n   :width: 1400px\n   :caption: wider than the page\n")
    page = build(tmp_path).out / "index.html"
    html = page.read_text(encoding="utf-8").replace("<body>", '<body style="width:200px">')
    page.write_text(html.replace("</body>", f"<script>{LOOK}</script></body>"), encoding="utf-8")
    found = seen(chromium, page)
    assert found["selected"] == "∂f/∂v = 50"
    assert len(found["tooltips"]) == found["boxes"] == len(builders.partials().nodes)
    assert found["page"] <= found["screen"]
    assert found["width"] > 200  # legible, and scrolled in its own box
