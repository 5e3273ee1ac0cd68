"""The rows of the table: each is one function that measures, in child processes, and says what the target was."""

from __future__ import annotations

import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ROWS", "Row", "Size"]

ROOT = Path(__file__).parent.parent
CHILD = str(ROOT / "benchmarks" / "child.py")
PARTIALS = str(ROOT / "examples" / "partials.py")
MANY = 1_000_000
MADE = "with the trace made of it"
ROWS: dict[str, Callable[[Size], Row]] = {}


class Row(NamedTuple):
    """One line of the table."""

    what: str
    ours: str
    target: str
    plain: str = "–"
    others: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it


class Size(NamedTuple):
    """How much to measure."""

    quick: bool

    @property
    def rounds(self) -> int:
        """How often each contender is measured."""
        return 1 if self.quick else 9

    def of(self, **sizes: Any) -> dict[str, Any]:
        """Return sizes for a quick run, else a workload's own."""
        return sizes if self.quick else {}


class Done(NamedTuple):
    """What a child printed, its wall time in seconds, and the peak of its memory in bytes."""

    found: dict[str, Any]
    seconds: float
    peak: int


def row(what: str) -> Any:
    """Register a row under its name."""

    def register(function: Any) -> Any:
        ROWS[what] = lambda size: function(what, size)
        return function

    return register


def run(*command: str) -> Done:
    """Run a command to its end; raises CalledProcessError."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", "")}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)  # noqa: S603
    out = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    last = out.splitlines()[-1] if out.strip() else b""
    unit = 1 if sys.platform == "darwin" else 1024
    return Done(json.loads(last) if last.startswith(b"{") else {}, seconds, usage.ru_maxrss * unit)


def child(name: str, *arguments: Any) -> Done:
    """Run one function of child.py."""
    return run(sys.executable, CHILD, name, json.dumps(arguments))


def compare(what: str, target: str, workload: tuple[str, dict[str, Any]], ours: str, size: Size) -> Row:
    """Return a row of ratios to the plain run; torchlens, which changes torch itself, has a process of its own."""
    found = child("ratios", *workload, ["plain", ours, f"{ours}, {MADE}", "anomaly mode"], size.rounds).found
    alone = child("ratios", *workload, ["plain", "torchlens"], min(size.rounds, 3)).found
    others = {"anomaly mode": f"{found['anomaly mode'] / found['plain']:.2f}"}
    if "torchlens" in alone:
        others["torchlens"] = f"{alone['torchlens'] / alone['plain']:.1f}"
    recording, made = found[ours] / found["plain"], found[f"{ours}, {MADE}"] / found["plain"]
    told = f"{recording:.2f}; {made:.2f} {MADE}"
    return Row(what, told, target, f"1.00 ({_short(found['plain'])})", others)


def _short(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _gpt(size: Size) -> tuple[str, dict[str, Any]]:
    return "gpt", size.of(layers=1, width=16)


def _chain(size: Size) -> tuple[str, dict[str, Any]]:
    return "chain", size.of(ops=50)


@row("GPT-like, everything recorded")
def gpt_full(what: str, size: Size) -> Row:
    """Forward and backward of a transformer."""
    return compare(what, "1.15", _gpt(size), "ours", size)


@row("GPT-like, gradients only")
def gpt_gradients(what: str, size: Size) -> Row:
    """The same without lines, modules and forward values."""
    return compare(what, "1.08", _gpt(size), "ours, gradients only", size)


def _on_gpu(what: str, target: str, steps: int, ours: str) -> Row:
    """Return a row of wall time until the GPU has done its work, of steps that zero their gradients."""
    name = child("gpu").found.get("name")
    if name is None:
        return Row(what, "no GPU here", target)
    found = compare(what, target, ("gpt2-small", {"steps": steps, "device": "cuda"}), ours, Size(quick=False))
    return found._replace(plain=f"{found.plain}, {name}")


@row("GPT-2-small in bfloat16 on a GPU, everything recorded")
def gpt_gpu(what: str, _: Size) -> Row:
    """One step of 8 × 1024 tokens."""
    return _on_gpu(what, "1.3", 1, "ours")


@row("GPT-2-small in bfloat16 on a GPU, gradients only")
def gpt_gpu_gradients(what: str, _: Size) -> Row:
    """The same without lines, modules and forward values."""
    return _on_gpu(what, "–", 1, "ours, gradients only")


@row("GPT-2-small in bfloat16 on a GPU, 20 steps, leaves only")
def gpt_gpu_loop(what: str, _: Size) -> Row:
    """A loop of which only each leaf's gradient norm is kept."""
    return _on_gpu(what, "1.03", 20, "ours, series only")


@row("chain of 5,000 scalar ops, everything recorded")
def chain_full(what: str, size: Size) -> Row:
    """Where an op costs next to nothing, and all is ours."""
    return compare(what, "2.5", _chain(size), "ours", size)


@row("chain of 5,000 scalar ops, gradients only")
def chain_gradients(what: str, size: Size) -> Row:
    """The same without lines and forward values."""
    return compare(what, "–", _chain(size), "ours, gradients only", size)


def _long(size: Size) -> tuple[str, dict[str, Any]]:
    return "mlp-loop", {"steps": 3 if size.quick else 10_000}


@row("small MLP, 10,000 steps, series only")
def series(what: str, size: Size) -> Row:
    """A training loop of which only each leaf's gradient norm is kept."""
    return compare(what, "1.3", _long(size), "ours, series only", size)


@row("small MLP, 10,000 steps, series and one pass in full")
def one_pass(what: str, size: Size) -> Row:
    """The same, with all that `gradtrace record --pass 1` does."""
    return compare(what, "1.3", _long(size), "ours, one pass kept", size)


@row("small MLP, 200 steps, every pass in full")
def loop(what: str, size: Size) -> Row:
    """The same with all passes kept whole."""
    return compare(what, "–", ("mlp-loop", size.of(steps=3)), "ours", size)


@row("small MLP, every pass in full, beside what it does not use")
def beside(what: str, size: Size) -> Row:
    """The same as the module and the script hold more that is unrelated: what is asked is to depend on the graph."""
    steps = size.of(steps=3)
    counts = (0, 10) if size.quick else (0, 100, 1000)
    found = [
        child("ratios", "mlp-beside", {"others": n, **steps}, ["plain", "ours"], size.rounds).found for n in counts
    ]
    ratios = [f"{one['ours'] / one['plain']:.2f} with {n:,}" for n, one in zip(counts, found, strict=True)]
    told = f"{', '.join(ratios)} other modules, tensors and numbers"
    return Row(what, told, "flat", f"1.00 ({_short(found[0]['plain'])})")


@row("ResNet-like, everything recorded")
def resnet(what: str, size: Size) -> Row:
    """Convolutions and batch norms."""
    return compare(what, "–", ("resnet", size.of(blocks=1)), "ours", size)


@row("LSTM cell over 200 steps, everything recorded")
def lstm(what: str, size: Size) -> Row:
    """Small ops on small tensors."""
    return compare(what, "–", ("lstm", size.of(steps=3)), "ours", size)


@row("one parameter used 2,000 times, everything recorded")
def fan_in(what: str, size: Size) -> Row:
    """A wide fan-in."""
    return compare(what, "–", ("fan-in", size.of(uses=20)), "ours", size)


@row("walk + DOT text, structure only, GPT-like")
def text(what: str, size: Size) -> Row:
    """The graph as text, without a run."""
    found = child("texts", *_gpt(size), size.rounds).found
    return Row(what, _short(found["ours"]), "a third of torchviz", others={"torchviz": _short(found["torchviz"])})


@row("GPT-like, peak memory")
def peak(what: str, size: Size) -> Row:
    """The whole process, torch included."""
    plain, ours = (child("once", *_gpt(size), name).peak for name in ("plain", "ours"))
    return Row(what, f"{ours / plain - 1:+.1%}", "+5 %", f"{plain / 2**20:.0f} MiB")


@row("a million-node chain, record + save")
def million(what: str, size: Size) -> Row:
    """Memory beyond the plain run, and time, against a chain of a tenth."""
    many = 1000 if size.quick else MANY
    plain, ours = child("chain", many, None), child("chain", many, "million.json")
    tenth = child("chain", many // 10, "tenth.json")
    growth = ours.found["seconds"] / tenth.found["seconds"]
    memory = (ours.peak - plain.peak) / many
    told = f"{ours.found['seconds']:.1f} s, {growth:.1f} times that of a tenth, {memory:,.0f} bytes a node"
    Path("million.json").unlink()
    return Row(what, told, "linear, 1,500 bytes", _short(plain.found["seconds"]), {"torchviz": "RecursionError"})


@row("load a trace of 100,000 nodes")
def load(what: str, size: Size) -> Row:
    """From disk to a Trace; and what a node takes on disk."""
    many = 1000 if size.quick else MANY // 10
    plain = child("chain", many, "load.json").found["bytes"] / many
    packed = len(gzip.compress(Path("load.json").read_bytes(), 6)) / many
    seconds = child("load", "load.json", size.rounds).found["seconds"]
    told = f"{_short(seconds)}; {plain:.0f} bytes a node, {packed:.0f} compressed"
    return Row(what, told, "1 s; 800 bytes, 80 compressed")


def wall(size: Size, *command: str) -> float:
    """Return the median wall time in seconds of a command."""
    return statistics.median(run(sys.executable, *command).seconds for _ in range(size.rounds))


@row("`gradtrace --help`")
def helped(what: str, size: Size) -> Row:
    """No torch is imported."""
    return Row(what, _short(wall(size, "-m", "gradtrace", "--help")), "0.2 s")


@row("`gradtrace formats`")
def formats(what: str, size: Size) -> Row:
    """No torch is imported."""
    return Row(what, _short(wall(size, "-m", "gradtrace", "formats")), "0.2 s")


@row("`gradtrace render examples/partials.py`")
def render(what: str, size: Size) -> Row:
    """From the script to its picture."""
    plain, ours = wall(size, PARTIALS), wall(size, "-m", "gradtrace", "render", PARTIALS)
    return Row(what, f"plain + {ours - plain:.2f} s", "plain + 0.4 s", _short(plain))


def page_row(name: str, what: str, target: str) -> None:
    """Register a row for the page of a script."""

    @row(f"the page of {what}")
    def measured(what: str, _: Size) -> Row:
        try:
            found = run(sys.executable, str(ROOT / "benchmarks" / "viewer.py"), name).found
        except subprocess.CalledProcessError:
            return Row(what, "no Chromium here", target)
        whole = found["unfolded"]
        told = (
            f"{found['nodes']:,} nodes, {found['bytes'] / 1e6:.2f} MB; ready {found['folded']['ready']:.2f} s after "
            f"navigation, {found['folded']['frame']:.0f} ms a frame with {found['folded']['boxes']} boxes"
        )
        return Row(what, f"{told}, {whole['frame']:.0f} with {whole['boxes']:,}", target)


page_row("partials", "partials", "–")
page_row("mlp", "an MLP, three passes", "–")
page_row("RNN", "an RNN over 1,000 steps", "–")
page_row("transformer", "a transformer of 12 layers", "ready in 1 s; 17 ms with 150 boxes")
page_row("mixture of experts", "a mixture of 12 × 16 experts", "33 ms unfolded")
