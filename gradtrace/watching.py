"""Watching a training: its backward passes are recorded at every N-th step, and checked; others run at full speed."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from gradtrace.api import Trace, record
from gradtrace.errors import FindingError
from gradtrace.files import make_folder
from gradtrace.processes.process import file_name, this_process
from gradtrace.wording.findings import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import torch

    from gradtrace.model import Finding

    Action = Literal["warn", "raise", "ignore"] | Callable[[tuple[Finding, ...], Trace], Any]

__all__ = ["GradientWarning", "Watch", "watch"]

ACTIONS = ("warn", "raise", "ignore")


class GradientWarning(UserWarning):
    """Warning about a finding of a watched step."""


def watch(
    *,
    every: int = 100,
    also: Collection[int] = (1, 2),
    out: str | Path | None = None,
    on_finding: Action = "warn",
    model: torch.nn.Module | None = None,
) -> Watch:
    """Record and check the backward passes of some steps of a training loop.

    Args:
        every: watch each step whose number, from 1, is a multiple of it; 0 for none.
        also: numbers of further steps.
        out: where the trace of each watched step is saved; ``{step}``, ``{rank}``, ``{world}``, ``{host}`` and
            ``{restart}`` are filled in, folders are made.
        on_finding: ``"warn"`` (a GradientWarning), ``"raise"`` (a FindingError, which ends the training),
            ``"ignore"``, or a function that is called with the findings and the trace.
        model: a module whose parameters and parts are called by their paths in it.

    Returns:
        A context manager whose ``step()`` is to be called at the end of each step, as that of
        ``torch.profiler.profile`` is. The gradients are those of a run without it.

    Raises:
        ValueError: ``every`` is negative, or ``on_finding`` is none of these.
    """
    if every < 0:
        raise ValueError(f"every must be 0 or more, got {every!r}")
    if on_finding not in ACTIONS and not callable(on_finding):
        raise ValueError(f"on_finding must be a function or one of {', '.join(ACTIONS)}, got {on_finding!r}")
    watched = Watch(every, frozenset(also), None if out is None else str(out), on_finding)
    watched.model = model
    return watched


class Watch:
    """The value of ``watch()``; ``trace`` and ``findings`` are those of the step that was watched last."""

    def __init__(self, every: int, also: frozenset[int], out: str | None, on_finding: Action) -> None:
        self.trace: Trace | None = None
        self.findings: tuple[Finding, ...] = ()
        self.number = 1  # of the current step
        self.model: torch.nn.Module | None = None
        self._every = every
        self._also = also
        self._out = out
        self._on_finding = on_finding
        self._running: tuple[ExitStack, Any] | None = None

    def __enter__(self) -> Self:
        """Begin the first step."""
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the current step; if an error ends the training, its findings are not acted on."""
        self._end(act=kind is None)

    def step(self) -> Trace | None:
        """End a step and begin the next; return the trace of the step that ended if it was watched."""
        try:
            return self.end()
        finally:
            self.begin()

    def begin(self) -> None:
        """Begin a step, where ``step()`` is not used: between ``end()`` and this nothing is recorded."""
        if self._running is None and self.is_due(self.number):
            stack = ExitStack()
            recording = record(command=(f"step {self.number}",), model=self.model)
            self._running = stack, stack.enter_context(recording)

    def end(self, log: Callable[[Trace], Any] | None = None) -> Trace | None:
        """End a step; return its trace if it was watched. ``log`` is handed it first, before findings are acted on."""
        watched = self._running is not None
        try:
            self._end(act=True, log=log)
        finally:
            self.number += 1
        return self.trace if watched else None

    def is_due(self, number: int) -> bool:
        """Tell whether the step with this number, from 1, is watched."""
        return number in self._also or bool(self._every and number % self._every == 0)

    def _end(self, *, act: bool, log: Callable[[Trace], Any] | None = None) -> None:
        if self._running is None:
            return
        (stack, recording), self._running = self._running, None
        stack.close()
        self.trace = recording.trace
        # Findings about a whole run do not hold for a single step.
        self.findings = tuple(finding for finding in self.trace.check() if finding.pass_index)
        if self._out is not None:
            path = file_name(self._out.replace("{step}", str(self.number)), this_process())
            make_folder(Path(path).parent)
            self.trace.save(path)
        if log is not None:
            log(self.trace)
        if act and self.findings:
            self._act(self.findings, self.trace)

    def _act(self, findings: tuple[Finding, ...], trace: Trace) -> None:
        if callable(self._on_finding):
            self._on_finding(findings, trace)
            return
        text = f"step {self.number}: {as_text(findings).strip()}"
        if self._on_finding == "raise":
            raise FindingError(text)
        if self._on_finding == "warn":
            warnings.warn(text, GradientWarning, stacklevel=5)
