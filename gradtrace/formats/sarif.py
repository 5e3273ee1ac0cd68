"""Findings as SARIF 2.1.0, which code review services show on the line (they refuse a result without a place)."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import msgspec

from gradtrace import __version__
from gradtrace.wording.findings import sentence
from gradtrace.wording.quoting import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradtrace.model import Finding, Source

__all__ = ["About", "as_sarif"]

LEVELS = {"error": "error", "warning": "warning", "info": "note"}
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class About(NamedTuple):
    """Content of a report beside the findings: a line on each check by its name, and the script's file name."""

    helps: Mapping[str, str]
    script: str = ""


def as_sarif(findings: Sequence[Finding], about: About) -> str:
    """Return the findings as a SARIF log of one run."""
    driver = {"name": "gradtrace", "version": __version__, "rules": [_rule(*each) for each in about.helps.items()]}
    order = {name: index for index, name in enumerate(about.helps)}
    seen: Counter[str] = Counter()
    results = []
    for finding in findings:
        key = _fingerprint(finding)
        seen[key] += 1  # the same expression twice in a function
        result = _result(finding, about.script) | {"partialFingerprints": {"gradtrace/v1": f"{key}:{seen[key]}"}}
        results.append(result | ({"ruleIndex": order[finding.check]} if finding.check in order else {}))
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode() + "\n"


def _rule(name: str, text: str) -> dict[str, Any]:
    said = {"text": sentence(text[:1].upper() + text[1:])}
    return {"id": name, "shortDescription": said, "fullDescription": said, "help": said}


def _fingerprint(finding: Finding) -> str:
    """Return what stays when lines are added above, and when the numbers change."""
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which takes longer than all of this module

    at = finding.source
    parts = [finding.check, *((_uri(at.filename), at.function, at.text) if at else (finding.message,))]
    return sha256("\0".join(map(str, parts)).encode(errors="replace")).hexdigest()[:16]


def _result(finding: Finding, script: str) -> dict[str, Any]:
    text = sentence(finding.message) + (
        f" {sentence(finding.hint[:1].upper() + finding.hint[1:])}" if finding.hint else ""
    )
    result: dict[str, Any] = {
        "ruleId": finding.check,
        "level": LEVELS[finding.severity],
        "message": {"text": visible(text)},
    }
    source = finding.source
    if source is not None or script:
        file = source.filename if source is not None else script
        place = {"artifactLocation": {"uri": _uri(file)}, "region": _region(source) if source else {"startLine": 1}}
        result["locations"] = [{"physicalLocation": place}]
    return result


def _uri(filename: str) -> str:
    """Return a path as a URI: relative to the current folder, or of a file elsewhere.

    >>> _uri("my script.py")
    'my%20script.py'
    """
    path = PurePath(filename)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix(), errors="replace")


def _region(source: Source) -> dict[str, int]:
    region = {"startLine": source.line, "endLine": source.end_line or source.line}
    if source.end_column:  # from 1 there, ends exclusive as here
        region |= {"startColumn": source.column + 1, "endColumn": source.end_column + 1}
    return region
