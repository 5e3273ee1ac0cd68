"""What Mermaid itself makes of our Mermaid: it runs in chromium, from ``build/mermaid.min.js``, which make fetches."""

import json
import os
import re
import runpy
import shutil
import string
import subprocess
import sys
from pathlib import Path

import pytest

import gradtrace
from gradtrace.drawing.theme import Theme
from gradtrace.fold import View
from gradtrace.formats.base import Style
from gradtrace.formats.mermaid import render
from gradtrace.model import BackwardPass, Report
from tests import builders
from tests.fold.graphs import repeated
from tests.fold.test_little import blocks
from tests.formats.test_pictures import dense
from tests.hostile import HOSTILE, trace_of

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
MERMAID = ROOT / "build" / "mermaid.min.js"
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
DRAW = """
(async () => {
  const found = {};
  mermaid.initialize({startOnLoad: false});
  for (const [name, text] of Object.entries(TEXTS)) {
    try {
      const {svg} = await mermaid.render("m" + Object.keys(found).length, text);
      const page = document.createElement("div"); page.innerHTML = svg;
      found[name] = {boxes: page.querySelectorAll("g.node").length,
                     lines: page.querySelectorAll("path.flowchart-link").length,
                     text: [...page.querySelectorAll("g.node")].map(n => n.textContent).join(" ")};
    } catch (error) { found[name] = {error: String(error)}; }
  }
  const said = document.createElement("pre"); said.id = "found";
  said.textContent = JSON.stringify(found); document.body.append(said);
})();
"""


def lacks(what):
    """Skip, or fail where all must be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What Mermaid drew of each text: how many boxes and lines, and what they say."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not MERMAID.is_file():
        lacks("needs chromium and Mermaid: make mermaid")
    texts = {name: render(*args) for name, args in cases().items()} | {name: example(name) for name in EXAMPLES}
    page = tmp_path_factory.mktemp("mermaid") / "page.html"
    script = DRAW.replace("TEXTS", json.dumps(texts).replace("</", "<\\/"))
    page.write_text(
        f"<!doctype html><meta charset=utf-8><body><script src='{MERMAID.as_uri()}'></script><script>{script}</script>",
        encoding="utf-8",
    )
    command = [chromium, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    text = found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return texts, json.loads(text)


def cases():
    hostile = builders.function("n0", "XBackward0", string.punctuation + " end graph subgraph", 1.0, order=0)
    return {
        "plain": (builders.report(), Style()),
        "themed": (builders.report(), Style(theme=Theme.load("dark"))),
        "folded": (builders.report(blocks(40)), Style()),
        "run": (builders.report(repeated(4, 60)), Style(view=View(max_nodes=20))),
        "large": (builders.report(dense(300)), Style(view=View(max_nodes=1000))),
        "hostile": (builders.report(BackwardPass(1, "backward", (hostile,))), Style()),
        **{f"text {at}": (report_of(text), Style()) for at, text in enumerate(HOSTILE)},
    }


def report_of(text):
    whole = trace_of(text)
    return Report(whole, whole.passes[0])


def example(name):
    """Return the last pass of an example; one that is meant to fail does."""
    before = list(sys.argv)
    sys.argv = [name]
    try:
        with gradtrace.record() as recording:
            try:
                recording.seed(runpy.run_path(str(ROOT / "examples" / name)))
            except RuntimeError:
                assert name == "backward_twice.py"
    finally:
        sys.argv = before
    trace = recording.trace
    return trace.drawn("mermaid")


@pytest.mark.parametrize("name", [*cases(), *EXAMPLES])
def test_mermaid_draws_each_box_and_each_line(drawn, name):
    texts, found = drawn
    assert "error" not in found[name], found[name]
    assert found[name]["boxes"] == len(re.findall(r"^  b\d+[\[(]", texts[name], re.MULTILINE)) > 0
    assert found[name]["lines"] == texts[name].count("-->")


def test_what_a_script_says_is_read_as_it_is(drawn):
    assert string.punctuation[:12] in drawn[1]["hostile"]["text"]
