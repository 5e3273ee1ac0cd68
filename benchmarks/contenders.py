"""Who is measured: each contender is one function that takes a workload's step and returns the same step, watched."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import torch
from rows import MADE

import gradtrace
from gradtrace.recording.recorder import Options, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], Any]

__all__ = ["CONTENDERS", "TEXTS", "fits"]

CONTENDERS: dict[str, Callable[[Step], Step]] = {}
# Walks the graph of a tensor and returns its structure as DOT text.
TEXTS: dict[str, Callable[[torch.Tensor], str]] = {}
NO_PASS = frozenset({10**9})


def contender(name: str) -> Any:
    """Register a contender."""

    def register(function: Any) -> Any:
        CONTENDERS[name] = function
        return function

    return register


def fits(name: str, step: Step) -> bool:
    """Tell whether a contender is installed and can do this workload."""
    return name != "torchlens" or (hasattr(step, "model") and importlib.util.find_spec("torchlens") is not None)


def _ours(options: Options, *, made: bool) -> Callable[[Step], Step]:
    def watched(step: Step) -> Step:
        def run() -> Any:
            with Recorder(options) as recorder:
                step()
            return recorder.trace if made else recorder

        return run

    return watched


for level, options in {
    "ours": Options(),
    "ours, gradients only": Options(forward=False),
    "ours, series only": Options(forward=False, keep=NO_PASS),
    "ours, one pass kept": Options(facts=True, keep=frozenset({1})),  # as `gradtrace record --pass 1` does
}.items():
    CONTENDERS[level] = _ours(options, made=False)
    CONTENDERS[f"{level}, {MADE}"] = _ours(options, made=True)


@contender("plain")
def plain(step: Step) -> Step:
    """Nothing is watched."""
    return step


@contender("anomaly mode")
def anomaly(step: Step) -> Step:
    """``torch.autograd.set_detect_anomaly``, which keeps a traceback for each op and checks for NaN."""

    def run() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.autograd.detect_anomaly():
                step()

    return run


@contender("torchlens")
def torchlens(step: Any) -> Step:
    """Keep, with torchlens, what a module computes, then its backward; it takes the module rather than a script."""

    def run() -> Any:
        import torchlens as tl  # noqa: PLC0415 - not everyone has it

        trace = tl.trace(step.model, step.inputs, capture=tl.options.CaptureOptions(save_grads=True))
        trace.log_backward(list(trace)[-1].out)

    return run


def torchviz_text(tensor: torch.Tensor) -> str:
    """Return torchviz's DOT text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchviz  # noqa: PLC0415

        return str(torchviz.make_dot(tensor).source)


TEXTS["torchviz"] = torchviz_text


def our_text(tensor: torch.Tensor) -> str:
    """Return our DOT text."""
    return str(gradtrace.make_dot(tensor, gradients=False).source)


TEXTS["ours"] = our_text
