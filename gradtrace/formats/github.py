"""Findings as annotations that GitHub shows on the lines of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.wording.findings import sentence
from gradtrace.wording.quoting import github_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.formats.sarif import About
    from gradtrace.model import Finding

__all__ = ["as_github"]

LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def as_github(findings: Sequence[Finding], _: About) -> str:
    """Return a workflow command for each finding, to be printed in a workflow."""
    return "".join(f"{_annotation(finding)}\n" for finding in findings)


def _annotation(finding: Finding) -> str:
    """Return a workflow command, which GitHub shows on the line in the review."""
    source = finding.source
    fields = {"title": f"gradtrace: {finding.check}"}
    if source is not None:
        fields = {
            "file": source.filename,
            "line": str(source.line),
            "endLine": str(source.end_line or source.line),
            **fields,
        }
    said = ",".join(f"{name}={github_text(value, ':,')}" for name, value in fields.items())
    text = sentence(finding.message) + (f"\n{finding.hint}" if finding.hint else "")
    return f"::{LEVELS[finding.severity]} {said}::{github_text(text)}"
