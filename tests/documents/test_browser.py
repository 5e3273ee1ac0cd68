"""What a browser makes of the pictures in a page; chromium itself looks."""

import json
import os
import re
import shutil
import subprocess
from html import escape

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


SYSTEM_IS_DARK = "--blink-settings=preferredColorScheme=0"
HOSTS = {  # the root of a page as its host writes it: light and dark, "" where it has no such page
    "Material": ('<body data-md-color-scheme="default">', '<body data-md-color-scheme="slate">'),
    "Material without a palette": ("<body>", ""),
    "furo": ('<body data-theme="light">', '<body data-theme="dark">'),
    "pydata": ('<html data-theme="light" data-mode="light"><body>', '<html data-theme="dark" data-mode="dark"><body>'),
    "alabaster": ("<body>", ""),
    "read the docs": ("<body class='wy-body-for-nav'>", ""),
    "nbconvert": ('<body data-jp-theme-light="true">', '<body data-jp-theme-light="false">'),
    "Bootstrap": ('<html data-bs-theme="light"><body>', '<html data-bs-theme="dark"><body>'),
    "dark without a word": ("<body>", '<body style="background:#111">'),
}
VARIABLES = {
    "Material": "--md-default-bg-color",
    "furo": "--color-background-primary",
    "pydata": "--pst-color-background",
    "nbconvert": "--jp-layout-color0",
    "Bootstrap": "--bs-body-bg",
}
CONTRASTS = """
const luminance = color => { const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(c => c / 255).map(
  c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((m, n) => m - n);
  return (y + 0.05) / (x + 0.05); };
const look = frame => {
  const page = frame.contentDocument, svg = page.querySelector("svg");
  const fill = element => frame.contentWindow.getComputedStyle(element).fill;
  const ground = fill(svg.querySelector(".graph > polygon"));
  const around = (outer, inner) => outer.x <= inner.x && outer.y <= inner.y && inner.right <= outer.right + 1
    && inner.bottom <= outer.bottom + 1;
  const texts = [...svg.querySelectorAll("text")].filter(text => !["", "■"].includes(text.textContent.trim()));
  const behind = text => [...svg.querySelectorAll("polygon, path")].filter(shape => fill(shape) !== "none"
    && around(shape.getBoundingClientRect(), text.getBoundingClientRect())).map(fill).at(-1);
  const told = texts.map(text => [contrast(fill(text), behind(text)), text.textContent, fill(text), behind(text)]);
  return { ground, page: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    worst: told.sort((one, other) => one[0] - other[0])[0] };
};
onload = () => {
  const found = Object.fromEntries([...document.querySelectorAll("iframe")].map(frame => [frame.title, look(frame)]));
  document.body.dataset.found = JSON.stringify(found);
};
"""


def host_page(host, picture, *, dark):
    """A page as a host writes it, around a picture."""
    ground = "#151515" if dark else "#fefefe"
    known = f"{VARIABLES[host]}:{ground};" if host in VARIABLES else ""
    rule = "" if host == "dark without a word" else f"body{{{known}background:{ground}}}"
    return f"<!doctype html><meta charset=utf-8><style>{rule}</style>{HOSTS[host][dark]}{picture}"


@pytest.mark.parametrize("system", ["light", "dark"])
def test_on_every_host_each_text_is_legible_whatever_page_and_system_are(chromium, tmp_path, picture, system):
    shown = inline(picture)
    pages = {f"{host}, {('light', 'dark')[dark]}": host_page(host, shown, dark=dark)
             for host, roots in HOSTS.items() for dark in (False, True) if roots[dark]}  # fmt: skip
    frames = [f'<iframe title="{name}" width=700 srcdoc="{escape(html)}"></iframe>' for name, html in pages.items()]
    page = tmp_path / "page.html"
    page.write_text(
        f"<!doctype html><meta charset=utf-8><script>{CONTRASTS}</script>{''.join(frames)}", encoding="utf-8"
    )
    found = seen(chromium, page, *([SYSTEM_IS_DARK] if system == "dark" else []))
    assert found.keys() == pages.keys()
    for name, colors in found.items():
        assert colors["worst"][0] >= 4.5, (name, colors)
        if name.partition(",")[0] in VARIABLES:
            assert colors["ground"] == colors["page"], name


def test_a_page_that_says_nothing_is_dark_where_its_color_scheme_follows_the_system(chromium, tmp_path, picture):
    follows = "<style>:root{color-scheme:light dark}</style>"
    assert look(chromium, tmp_path, inline(picture), SYSTEM_IS_DARK)["asked"] == rgb(INK)
    assert look(chromium, tmp_path, follows + inline(picture), SYSTEM_IS_DARK)["asked"] == rgb(DARK[INK])
    assert look(chromium, tmp_path, follows + inline(picture))["asked"] == rgb(INK)
    never = look(chromium, tmp_path, follows + inline(picture, Frame(dark=False)), SYSTEM_IS_DARK)
    assert never["asked"] == rgb(INK)


def test_a_page_that_is_as_the_system_has_a_picture_that_is_too(chromium, tmp_path, picture):
    auto = f"<script>document.body.dataset.theme = 'auto'</script>{inline(picture)}"
    assert look(chromium, tmp_path, auto, SYSTEM_IS_DARK)["asked"] == rgb(DARK[INK])
    assert look(chromium, tmp_path, auto)["asked"] == rgb(INK)


CLICK = """
let opened = "";
URL.createObjectURL = blob => { opened = blob; return "blob:picture"; };
window.open = async () => {
  const picture = new DOMParser().parseFromString(await opened.text(), "image/svg+xml").documentElement;
  document.body.dataset.found = JSON.stringify({
    name: picture.localName, width: picture.getAttribute("width"), style: picture.getAttribute("style"),
    texts: picture.querySelectorAll("text").length, here: document.querySelectorAll("svg text").length,
  });
};
onload = () => document.querySelector("svg .node").dispatchEvent(new MouseEvent("click", { bubbles: true }));
"""


def test_a_click_opens_the_picture_in_its_own_size(chromium, tmp_path, picture):
    page = tmp_path / "page.html"
    html = f"<!doctype html><meta charset=utf-8><body>{inline(picture)}<script>{CLICK}</script>"
    page.write_text(html, encoding="utf-8")
    found = seen(chromium, page, "--virtual-time-budget=2000")
    assert (found["name"], found["style"]) == ("svg", None)
    assert found["width"] == re.search(r'width="([\d.]+pt)"', picture)[1]
    assert found["texts"] == found["here"] > 0


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
