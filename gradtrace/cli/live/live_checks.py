"""Checks of a script's passes while it runs: each finding is printed when it is first found."""

from __future__ import annotations

import inspect
import re
from time import monotonic
from typing import TYPE_CHECKING

from gradtrace.checks.checker import Checker
from gradtrace.cli.output import say
from gradtrace.wording.nodes import location

if TYPE_CHECKING:
    from types import FrameType

    from gradtrace.checks.base import Thresholds
    from gradtrace.model import BackwardPass, Finding, Trace

__all__ = ["LiveChecks"]

_QUIET = 3.0  # seconds without printing, torch's import included: in a short run the report comes soon enough
_TORCHS = "Checkpoint|Compiled|BackwardHook|_ToTorchTensor|_FromTorchTensor|DDP|PerSampleGrad|RegisterPostBackward"
_CUSTOM = re.compile(rf"(?!.*({_TORCHS})).*Backward$")


class LiveChecks(Checker):
    """Checks passes while the script runs; an error in a check is raised after the script has ended.

    Args:
        limits: the thresholds.
        first: stop the script at the first error that is found.
        shown: print each finding when it is first found.
    """

    def __init__(self, limits: Thresholds, *, first: bool, shown: bool) -> None:
        super().__init__(limits)
        self.first = first
        self.functions: dict[str, None] = {}  # custom Functions in the graphs
        self._shown = shown
        self._failed: Exception | None = None
        self._began = monotonic()
        self._known = 0

    def see(self, graph: BackwardPass) -> None:
        """Check this pass; raise SystemExit where it has the first error and that is asked for."""
        for node in graph.nodes if len(self.functions) < 5 else ():  # noqa: PLR2004 - names enough
            if node.kind == "function" and _CUSTOM.match(node.op):
                self.functions[node.op.removesuffix("Backward")] = None
        try:
            super().see(graph)
        except Exception as error:  # noqa: BLE001 - see found()
            self._failed = self._failed or error
        fresh = self.worst_until_now()[self._known :]
        self._known += len(fresh)
        for finding in fresh:
            if self._shown and (self.first or monotonic() - self._began > _QUIET):
                say(_line(finding, graph))
        worst = self.first and graph.error is None and any(finding.severity == "error" for finding in fresh)
        if worst and _is_running():
            raise SystemExit(1)

    def found(self, trace: Trace) -> tuple[Finding, ...]:
        """Return the findings, or raise the error of a check that failed."""
        if self._failed is not None:
            raise self._failed
        return super().found(trace)


def _line(finding: Finding, graph: BackwardPass) -> str:
    """Return a finding in a line: ``error nonfinite-forward at train.py:12 (pass 276, step 137)``."""
    at = f" at {location(finding.source)}" if finding.source is not None else ""
    step = f", step {graph.step:,}" if graph.step else ""
    return f"{finding.severity} {finding.check}{at} (pass {graph.index:,}{step})"


def _is_running() -> bool:
    """Tell whether the running code was called by the script, or the script has ended."""
    from gradtrace.recording.user_code.entry import OUTERMOST  # noqa: PLC0415 - its package comes with torch

    frame: FrameType | None = inspect.currentframe()
    while frame is not None and frame.f_code is not OUTERMOST:
        frame = frame.f_back
    return frame is not None
