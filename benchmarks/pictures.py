"""What can be read of a picture, and the seconds of CPU from the trace in hand to the file on disk.

Beside it torchviz and dot on the same graph. The figures: boxes, the height of the smallest text in CSS pixels when
the picture is fitted to a screen 1280 wide, its height by its width, how many lines cross, and the share of the paper
that no box stands on. python benchmarks/pictures.py [--limit SECONDS] [--write docs/picture.md] [NAME...]; one core
is enough. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchviz
import workloads
from architectures import ARCHITECTURES, Experts
from figures import figures
from msgspec.structs import replace
from torch import nn

import gradtrace
from gradtrace.model import FORMAT_VERSION, BackwardPass, Edge, Node, TensorStats

if TYPE_CHECKING:
    from collections.abc import Callable


class DenseLayer(nn.Module):
    """A layer of DenseNet: it reads all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, seen: list[torch.Tensor]) -> torch.Tensor:
        """Return the output."""
        return self.conv2(self.norm2(self.conv1(self.norm1(torch.cat(seen, 1)).relu())).relu())


class DenseBlock(nn.ModuleList):
    """Layers that each read all before them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        seen = [x]
        for layer in self:
            seen.append(layer(seen))
        return torch.cat(seen, 1)


class DenseNet(nn.Module):
    """DenseNet-121 with narrow layers: the same graph."""

    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        channels = 2 * growth
        self.stem, parts = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)), []
        for block, layers in enumerate((6, 12, 24, 16)):
            parts.append(DenseBlock(DenseLayer(channels + growth * i, growth) for i in range(layers)))
            channels += layers * growth
            if block < 3:  # noqa: PLR2004
                half = nn.Conv2d(channels, channels // 2, 1, bias=False)
                parts.append(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), half))
                channels //= 2
        self.blocks, self.head = nn.Sequential(*parts), nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def gpt(layers: int) -> torch.Tensor:
    """Return the loss of a narrow GPT."""
    tokens = torch.randint(1000, (2, 16))
    return nn.functional.cross_entropy(workloads.GPT(layers, 32)(tokens).flatten(0, 1), tokens.flatten())


def rnn(steps: int) -> torch.Tensor:
    """Return the loss of an RNN cell over so many steps."""
    cell, head, x, h = nn.RNNCell(8, 16), nn.Linear(16, 1), torch.randn(steps, 2, 8), torch.zeros(2, 16)
    for each in x:
        h = cell(each, h)
    return head(h).square().mean()


def chain(ops: int) -> BackwardPass:
    """Return the pass of a chain, made by hand: recording a million ops takes a minute."""
    one = TensorStats((), norm=1.0, mean=1.0, min=1.0, max=1.0, values=1.0)
    nodes = [Node("n0", "output", "output", "y", grads=(one,))]
    nodes += [Node(f"n{at}", "function", "MulBackward0", grads=(one,), order=at - 1) for at in range(1, ops)]
    nodes.append(Node(f"n{ops}", "leaf", "AccumulateGrad", "x", grads=(one,)))
    return BackwardPass(1, "backward", tuple(nodes), tuple(Edge(f"n{i}", f"n{i + 1}", 0, 0, one) for i in range(ops)))


START, END = "<!-- measured: benchmarks/pictures.py -->", "<!-- /measured -->"

REPEATS = 2  # of which the best counts: other processes only ever add to it

HEAD = (
    "| graph | nodes | boxes | text px | height/width | crossings | empty | gradtrace s | limit s | torchviz + dot s |"
)

# What to draw, and the seconds that it may take; None for no limit.
CASES: dict[str, tuple[Callable[[], Any], float | None]] = {
    **{name: (make, None) for name, make in ARCHITECTURES.items()},
    "rnn-100": (lambda: rnn(100), 1),
    "gpt-12": (lambda: gpt(12), 0.5),
    "densenet-121": (lambda: DenseNet()(torch.randn(2, 3, 32, 32)).square().mean(), 1.5),
    "moe-12x16": (
        lambda: nn.Sequential(*(Experts(16, 16) for _ in range(12)))(torch.randn(64, 16)).square().mean(),
        1.5,
    ),
    "rnn-1000": (lambda: rnn(1000), 1.5),
    "rnn-5000": (lambda: rnn(5000), 5),
    "gpt-256": (lambda: gpt(256), 5),
    "chain-1000000": (lambda: chain(1_000_000), 30),
}


def main() -> None:
    """Print one line per case: nodes, boxes, our seconds and the limit, torchviz's and dot's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for torchviz and dot; 0 to leave them out")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this page, between its marks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [HEAD, "|---" * HEAD.count(" | ") + "|---|"]
    print(*lines, sep="\n")
    for name in options.names or CASES:
        make, budget = CASES[name]
        torch.manual_seed(0)
        lines.append("| " + " | ".join(measured(name, make, budget, options.limit)) + " |")
        print(lines[-1], flush=True)
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        start, rest = page.split(START)
        text = "\n".join(["", "", *lines, "", ""])
        options.write.write_text(f"{start}{START}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


def measured(name: str, make: Callable[[], Any], budget: float | None, limit: float) -> list[str]:
    """Return the cells of one line."""
    with gradtrace.record() as recording:
        made = make()
        if isinstance(made, torch.Tensor):
            made.backward(retain_graph=True)
    is_pass = isinstance(made, BackwardPass)
    trace = gradtrace.Trace(FORMAT_VERSION, passes=(made,)) if is_pass else recording.trace
    other = theirs(made, limit) if limit and not is_pass else "–"
    pictures = [picture(trace) for _ in range(1 if is_pass else REPEATS)]
    read = figures(pictures[0][1])
    shape = [str(read.boxes), f"{read.smallest:.1f}", f"{read.shape:.2f}", str(read.crossings), f"{read.empty:.0%}"]
    seconds = min(seconds for seconds, _ in pictures)
    nodes = f"{len(trace.passes[-1].nodes):,}"
    return [name, nodes, *shape, f"{seconds:.2f}", "–" if budget is None else f"{budget:g}", other]


def picture(trace: gradtrace.Trace) -> tuple[float, str]:
    """Return the seconds of CPU that a picture takes, with nothing remembered from the one before, and the picture."""
    fresh = replace(trace, passes=tuple(replace(graph) for graph in trace.passes))
    with tempfile.TemporaryDirectory() as folder:
        start = sum(os.times()[:4])
        path = fresh.render(f"{folder}/picture.svg")
        return sum(os.times()[:4]) - start, path.read_text(encoding="utf-8")


def theirs(loss: torch.Tensor, limit: float) -> str:
    """Return the seconds of torchviz and dot on the graph of ``loss``."""
    start = time.perf_counter()
    try:
        source = deeply(lambda: torchviz.make_dot(loss).source)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "picture.svg"
            left = max(0.1, limit - (time.perf_counter() - start))
            subprocess.run(["dot", "-Tsvg", "-o", target], input=source.encode(), timeout=left, check=True)  # noqa: S603, S607
    except subprocess.TimeoutExpired:
        return f"over {limit:g}"
    except (RecursionError, subprocess.CalledProcessError, FileNotFoundError) as error:
        return type(error).__name__
    return f"{time.perf_counter() - start:.2f}"


def deeply(work: Callable[[], str]) -> str:
    """Return what ``work`` does with a stack as deep as it likes: torchviz recurses once per node."""
    found: list[str] = []
    sys.setrecursionlimit(10**6)
    threading.stack_size(1 << 30)
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


if __name__ == "__main__":
    main()
