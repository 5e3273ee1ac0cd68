"""What docs/comparison.md claims of the alternatives, checked: one line per claim, and 1 if one no longer holds.

torchviz and anomaly mode come with gradtrace; for the rest: pip install torchview torchlens tensorboard.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import torch
import torchviz

import gradtrace

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURE = """
import torch, torchviz
filler = [object() for _ in range({0})]
x = torch.tensor(3.0, requires_grad=True)
print(torchviz.make_dot((x**2).exp()).source)
"""
OURS = """
import torch, gradtrace
x = torch.tensor(3.0, requires_grad=True)
print(gradtrace.draw((x**2).exp()).drawn("dot"))
"""


def _printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout  # noqa: S603


def _chain(length: int) -> torch.Tensor:
    value = torch.tensor(1.0, requires_grad=True)
    for _ in range(length):
        value = value * 1.0
    return value


def torchviz_shows_no_gradient_and_no_line() -> bool:
    """The slope of x² at 9 is 18: ours says so, torchviz's source has neither 18 nor the expression."""
    x = torch.tensor(9.0, requires_grad=True)
    y = x**2
    theirs, ours = torchviz.make_dot(y, {"x": x}).source, gradtrace.draw(y).drawn("text")
    return "18" in str(ours) and not any(word in theirs for word in ("= 18", ">18", " 18\\n", "x**2", "claims.py"))


def torchviz_differs_from_run_to_run() -> bool:
    """Its nodes are named by address; ours are the same in every process."""
    return (
        len({_printed(PICTURE.format(n)) for n in (10, 200_000)}) > 1 and len({_printed(OURS) for _ in range(2)}) == 1
    )


def torchviz_recurses() -> bool:
    """A few thousand operations in a row are too many for it, and none for us."""
    long = _chain(3000)
    try:
        torchviz.make_dot(long)
    except RecursionError:
        return len(gradtrace.draw(long).passes[-1].nodes) > 3000  # noqa: PLR2004
    return False


class Net(torch.nn.Module):
    """Counts how often its forward runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = torch.nn.Linear(4, 3), 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return a scalar."""
        self.calls += 1
        return torch.tanh(self.inner(batch)).sum()


def anomaly_mode_tells_of_nan_only_and_keeps_a_traceback_for_each_op() -> bool:
    """A gradient of 1e30 passes without a word; a NaN ends the pass, and the forward's traceback is printed."""
    x, zero = torch.tensor(1.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    with warnings.catch_warnings(record=True) as told, torch.autograd.detect_anomaly():
        warnings.simplefilter("always")
        y = x * 1e30
        kept = "traceback_" in y.grad_fn.metadata
        y.backward()
        quiet = len(told)
        try:
            (torch.sqrt(zero) * zero).backward()
        except RuntimeError:
            return kept and quiet <= 1 and any("claims.py" in str(each.message) for each in told)
    return False


def torchview_draws_modules_and_shapes_also_on_meta_and_nothing_of_backward() -> bool:
    """Module names and shapes are in its source; backward functions and gradients are not."""
    torchview = importlib.import_module("torchview")
    net = Net()
    net(torch.ones(2, 4)).backward()
    real = torchview.draw_graph(net, input_data=torch.ones(2, 4)).visual_graph.source
    meta = torchview.draw_graph(Net(), input_size=(2, 4), device="meta").visual_graph.source
    return all("Linear" in text and "(2, 3)" in text and "Backward" not in text for text in (real, meta))


def torchlens_runs_the_model_itself_keeps_activations_and_leaves_torch_wrapped() -> bool:
    """It takes the model and its input and calls forward; the tensors are there in full; torch.tanh is another."""
    torchlens = importlib.import_module("torchlens")
    net, batch, tanh = Net(), torch.randn(2, 4), torch.tanh
    found = {layer.layer_type: layer.out for layer in torchlens.trace(net, batch).layers}
    with torch.no_grad():
        same = torch.equal(found["linear"], net.inner(batch))
    wrapped = torch.tanh is not tanh
    with gradtrace.record() as recording:
        net(batch).backward()
    return same and wrapped and net.calls == 2 and len(recording.trace.passes) == 1  # noqa: PLR2004


def tensorboard_shows_the_traced_forward() -> bool:
    """What its add_graph writes are the ops of the forward, and none of backward."""
    graph = importlib.import_module("torch.utils.tensorboard._pytorch_graph").graph
    ops = {node.op for node in graph(Net(), torch.ones(2, 4))[0].node}
    return "aten::tanh" in ops and not any("Backward" in op or "backward" in op for op in ops)


CLAIMS: dict[Callable[[], bool], str] = {
    torchviz_shows_no_gradient_and_no_line: "torchviz",
    torchviz_differs_from_run_to_run: "torchviz",
    torchviz_recurses: "torchviz",
    anomaly_mode_tells_of_nan_only_and_keeps_a_traceback_for_each_op: "torch",
    torchview_draws_modules_and_shapes_also_on_meta_and_nothing_of_backward: "torchview",
    tensorboard_shows_the_traced_forward: "tensorboard",
    # The last one, since torch stays wrapped after it.
    torchlens_runs_the_model_itself_keeps_activations_and_leaves_torch_wrapped: "torchlens",
}


def main() -> int:
    """Check each claim of what is installed; return 1 if one fails."""
    failed = 0
    for claim, package in CLAIMS.items():
        told = "left out: not installed:"
        if importlib.util.find_spec(package):
            told = "holds" if claim() else "FAILS"
        failed += told == "FAILS"
        print(told, claim.__name__.replace("_", " "))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
