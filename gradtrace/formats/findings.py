"""Findings as text: for the terminal, as data, as GitHub annotations; ``sarif.py`` has SARIF."""

from __future__ import annotations

import textwrap
from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from gradtrace.formats.numbers import number
from gradtrace.formats.sarif import About, as_sarif, sentence
from gradtrace.formats.table import paint, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.model import Finding

__all__ = ["REPORTS", "About", "as_text", "summary"]

MARKS = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("·", "cyan")}
GITHUB = {"error": "error", "warning": "warning", "info": "notice"}


def as_text(findings: Sequence[Finding], width: int = 80, *, color: bool = False) -> str:
    """Return the findings to be read: mark, check and place, what is wrong, what to do."""
    return "".join(f"{line}\n" for finding in findings for line in _lines(finding, width, color=color))


def _lines(finding: Finding, width: int, *, color: bool) -> Iterator[str]:
    mark, look = MARKS[finding.severity]
    at = ", ".join(part for part in (_place(finding), _passes(finding)) if part)
    yield paint(f"{mark} {finding.check}{f'  {visible(at)}' if at else ''}", look, color=color)
    yield from _wrapped(sentence(finding.message), "    ", width)
    if finding.hint:
        yield from _wrapped(f"→ {finding.hint}", "    ", width)
    if finding.thresholds:
        limits = ", ".join(f"{name}={number(value)}" for name, value in finding.thresholds.items())
        yield from (paint(line, "dim", color=color) for line in _wrapped(f"thresholds: {limits}", "    ", width))


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    wrapper = textwrap.TextWrapper(width, initial_indent=indent, subsequent_indent=indent)
    wrapper.break_on_hyphens = wrapper.break_long_words = False
    return wrapper.wrap(visible(text))


def _place(finding: Finding) -> str:
    return f"{PurePath(finding.source.filename).name}:{finding.source.line}" if finding.source else ""


def _passes(finding: Finding) -> str:
    if not finding.pass_index:
        return ""
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    return f"pass {finding.pass_index:,}{more}"


def summary(findings: Sequence[Finding], passes: int) -> str:
    """Return how many findings there are in how many passes, in a line."""
    counts = [(word, sum(finding.severity == word for finding in findings)) for word in MARKS]
    words = [f"{count:,} {word}{'s' if count > 1 and word != 'info' else ''}" for word, count in counts if count]
    return f"{', '.join(words) or 'no findings'} in {passes:,} backward pass{'' if passes == 1 else 'es'}"


def _as_json(findings: Sequence[Finding], _: About) -> str:
    return msgspec.json.format(msgspec.json.encode(list(findings)), indent=2).decode() + "\n"


def _as_github(findings: Sequence[Finding], _: About) -> str:
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
    said = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in fields.items())
    text = sentence(finding.message) + (f"\n{finding.hint}" if finding.hint else "")
    return f"::{GITHUB[finding.severity]} {said}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


# Given the findings, and what else a report tells.
REPORTS: dict[str, Callable[[Sequence[Finding], About], str]] = {
    "json": _as_json,
    "github": _as_github,
    "sarif": as_sarif,
}
