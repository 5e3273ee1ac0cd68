"""The trace itself, to keep or to read with other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gradtrace.formats.base import Style, register
from gradtrace.tracefile import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.formats.sarif import About
    from gradtrace.model import Finding, Report

__all__ = ["as_json", "render"]


@register("json", ".json", ".json.gz")
def render(report: Report, _style: Style) -> bytes:
    """The whole trace, all its passes, as JSON; gradtrace reads it back."""
    return dumps(report.trace)


def as_json(findings: Sequence[Finding], _: About) -> str:
    """Return the findings as a list of objects."""
    return msgspec.json.format(msgspec.json.encode(list(findings)), indent=2).decode() + "\n"
