"""Findings as text: for the terminal, as data, as GitHub annotations, as SARIF."""

from __future__ import annotations

import textwrap
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec

from gradtrace.formats.numbers import number
from gradtrace.formats.table import paint, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gradtrace.model import Finding

__all__ = ["REPORTS", "as_text", "summary"]

MARKS = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("·", "cyan")}
GITHUB = {"error": "error", "warning": "warning", "info": "notice"}
SARIF = {"error": "error", "warning": "warning", "info": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(findings: Sequence[Finding], width: int = 80, *, color: bool = False) -> str:
    """Return the findings to be read: mark, check and place, what is wrong, what to do."""
    return "".join(f"{line}\n" for finding in findings for line in _lines(finding, width, color=color))


def _lines(finding: Finding, width: int, *, color: bool) -> Iterator[str]:
    mark, look = MARKS[finding.severity]
    at = ", ".join(part for part in (_place(finding), _passes(finding)) if part)
    yield paint(f"{mark} {finding.check}{f'  {visible(at)}' if at else ''}", look, color=color)
    yield from _wrapped(_sentence(finding.message), "    ", width)
    if finding.hint:
        yield from _wrapped(f"→ {finding.hint}", "    ", width)
    if finding.thresholds:
        limits = ", ".join(f"{name}={number(value)}" for name, value in finding.thresholds.items())
        yield from (paint(line, "dim", color=color) for line in _wrapped(f"thresholds: {limits}", "    ", width))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


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


def _as_json(findings: Sequence[Finding], _: Mapping[str, str]) -> str:
    return msgspec.json.format(msgspec.json.encode(list(findings)), indent=2).decode() + "\n"


def _as_github(findings: Sequence[Finding], _: Mapping[str, str]) -> str:
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
    text = _sentence(finding.message) + (f"\n{finding.hint}" if finding.hint else "")
    return f"::{GITHUB[finding.severity]} {said}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _as_sarif(findings: Sequence[Finding], helps: Mapping[str, str]) -> str:
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in helps.items()]
    tool = {"driver": {"name": "gradtrace", "rules": rules}}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": [_result(f) for f in findings]}]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode() + "\n"


def _result(finding: Finding) -> dict[str, Any]:
    text = _sentence(finding.message) + (f" {finding.hint}." if finding.hint else "")
    result: dict[str, Any] = {"ruleId": finding.check, "level": SARIF[finding.severity], "message": {"text": text}}
    source = finding.source
    if source is not None:
        region = {"startLine": source.line, "endLine": source.end_line or source.line}
        if source.end_column:  # from 1 there, ends exclusive as here
            region |= {"startColumn": source.column + 1, "endColumn": source.end_column + 1}
        place = {"artifactLocation": {"uri": PurePath(source.filename).as_posix()}, "region": region}
        result["locations"] = [{"physicalLocation": place}]
    return result


# Given the findings, and one line on each check by its name.
REPORTS: dict[str, Callable[[Sequence[Finding], Mapping[str, str]], str]] = {
    "json": _as_json,
    "github": _as_github,
    "sarif": _as_sarif,
}
