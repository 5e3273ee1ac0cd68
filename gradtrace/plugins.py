"""The names that a format or a check of a third party imports; they stay where they are.

``register`` and ``check`` are the decorators of a format and of a check. A format is given a ``Report`` and a
``Style`` and returns text or bytes; a check is given a pass and the ``Thresholds`` and yields each ``Finding``.
``stats`` writes a tensor's statistics as the pictures do, ``one_line`` makes a script's text safe for one line.
"""

from __future__ import annotations

from gradtrace.checks.base import Thresholds, check
from gradtrace.formats.base import Style, register
from gradtrace.model import BackwardPass, Edge, Finding, Node, Report, Source, TensorStats, Trace
from gradtrace.wording.numbers import stats
from gradtrace.wording.quoting import one_line

__all__ = [
    "BackwardPass",
    "Edge",
    "Finding",
    "Node",
    "Report",
    "Source",
    "Style",
    "TensorStats",
    "Thresholds",
    "Trace",
    "check",
    "one_line",
    "register",
    "stats",
]
