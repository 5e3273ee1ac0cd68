"""The page of one script in Chromium: ready after navigation, milliseconds a frame while it is moved, its bytes.

A child of the benchmarks: ``python benchmarks/viewer.py transformer``; needs Playwright and a Chromium.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

import gradtrace

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
FRAMES = 60
GPT = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 128, 0.0), 12, enable_nested_tensor=False)
nn.functional.mse_loss(model(torch.randn(16, 2, 32)), torch.zeros(16, 2, 32)).backward()
"""
RNN = """
import torch
torch.manual_seed(0)
cell, h = torch.nn.RNNCell(4, 8), torch.zeros(1, 8)
for x in torch.randn(1000, 1, 4):
    h = cell(x, h)
h.pow(2).mean().backward()
"""
EXPERTS = """
import torch
from torch import nn
torch.manual_seed(0)
class MoE(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.norm = nn.Linear(16, 16), nn.LayerNorm(16)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(16))
    def forward(self, x):
        y = self.norm(x)
        w = self.gate(y).softmax(-1)
        return x + sum(w[:, i : i + 1] * expert(y) for i, expert in enumerate(self.experts))
nn.Sequential(*(MoE() for _ in range(12)))(torch.randn(8, 16)).pow(2).mean().backward()
"""
PAN = """async frames => {
  const graph = document.querySelector(".graph");
  const place = graph.getBoundingClientRect();
  const [x, y] = [place.left + place.width / 2, place.top + place.height / 2];
  const turned = {deltaY: 0, clientX: x, clientY: y, bubbles: true, cancelable: true};
  const wheel = (dx) => graph.dispatchEvent(new WheelEvent("wheel", {...turned, deltaX: dx}));
  const times = [];
  for (let at = 0; at <= frames; at += 1) {
    const began = performance.now();
    wheel(at % 2 ? 9 : -9);
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length / 2)];
}"""


SCRIPTS = {"RNN": RNN, "transformer": GPT, "mixture of experts": EXPERTS}


def main(name: str) -> None:
    """Measure the page of one script, and print what was found as JSON."""
    script = SCRIPTS.get(name) or (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.chdir(folder)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        print(json.dumps(_measured(browser, script)))
        browser.close()


def _measured(browser: Browser, script: str) -> dict[str, Any]:
    Path("script.py").write_text(script, encoding="utf-8")
    with gradtrace.record() as recording, contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path("script.py", run_name="__main__")
    began = time.perf_counter()
    recording.trace.render("page.html")
    made = time.perf_counter() - began
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    found = {"folded": _seen(page), "unfolded": _seen(page, "#all=true")}
    page.close()
    nodes = sum(len(graph.nodes) for graph in recording.trace.passes)
    return {**found, "made": made, "nodes": nodes, "bytes": Path("page.html").stat().st_size}


def _seen(page: Page, address: str = "") -> dict[str, Any]:
    """Return how long the page took to be ready, and the median time of a frame while it is moved."""
    page.goto("about:blank")
    page.goto(f"{Path('page.html').resolve().as_uri()}{address}")
    page.wait_for_selector("html[data-ready]", state="attached")
    page.wait_for_timeout(500)
    return {
        "ready": int(page.evaluate("document.documentElement.dataset.ready")) / 1000,
        "boxes": page.evaluate("gradtrace.page.graph.scene?.boxes.length ?? 0"),
        "frame": page.evaluate(PAN, FRAMES),  # of 60 a second the browser makes no more
    }


if __name__ == "__main__":
    main(sys.argv[1])
