"""The trace itself, to keep or to read with other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.formats.base import Style, register
from gradtrace.tracefile import dumps

if TYPE_CHECKING:
    from gradtrace.model import Report

__all__ = ["render"]


@register("json", ".json", ".json.gz")
def render(report: Report, _style: Style) -> bytes:
    """The whole trace, all its passes, as JSON; gradtrace reads it back."""
    return dumps(report.trace)
