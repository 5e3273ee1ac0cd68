"""``gradtrace check``: find what is wrong with the backward passes of a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gradtrace.checks.base import CHECKS, SEVERITIES, Thresholds
from gradtrace.checks.checker import run
from gradtrace.cli.late import Late, take_late
from gradtrace.cli.live.live_checks import LiveChecks
from gradtrace.cli.options import Module, Rank, Source
from gradtrace.cli.output import Target, leads, print_findings, say
from gradtrace.cli.source import Recorded, Work, find
from gradtrace.cli.thresholds import is_threshold, read_thresholds
from gradtrace.errors import NothingRecordedError, UnknownNameError
from gradtrace.formats.github import as_github
from gradtrace.formats.json import as_json
from gradtrace.formats.sarif import About, as_sarif
from gradtrace.wording.findings import summary
from gradtrace.wording.nodes import first_few

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.model import Finding, Trace

__all__ = ["check"]

FAIL_ON = (*SEVERITIES, "never")
REPORTS = {"json": as_json, "github": as_github, "sarif": as_sarif}
FORMATS = ("text", *REPORTS)
Json = Annotated[bool, typer.Option("--json", help="Print the findings as JSON; the same as -f json.")]
FailOn = Annotated[
    str,
    typer.Option(
        "--fail-on", metavar="SEVERITY", help="Exit with 1 at this severity or worse: error, warning, info, never."
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold", metavar="NAME=VALUE", help="Set a threshold; gradtrace checks lists them. Can be repeated."
    ),
]
Numeric = Annotated[bool, typer.Option("--numeric", help="Also compare the gradients with finite differences.")]
ExitFirst = Annotated[
    bool, typer.Option("-x", "--exitfirst", help="Stop the script at the first error found, with exit code 1.")
]
FAILED = "the script failed, and none of its {passes:,} backward passes has a finding"
ReportName = Annotated[
    str, typer.Option("-f", "--format", metavar="FORMAT", help="The output format: text, json, github or sarif.")
]


def check(
    context: typer.Context,
    source: Source,
    *,
    json: Json = False,
    fail_on: FailOn = "error",
    threshold: Limits = None,
    format_name: ReportName = "text",
    numeric: Numeric = False,
    exitfirst: ExitFirst = False,
    module: Module = False,
    rank: Rank = None,
) -> None:
    """Run SCRIPT, check all its backward passes, and print what is wrong: the line, the proof and a fix.

    Arguments after SCRIPT are passed to it.
    """
    late, thresholds, arguments = _late(context)
    first = exitfirst or "exitfirst" in late
    format_name = "json" if json or "json" in late else late.get("format", format_name)
    fail_on = late.get("fail-on", fail_on)
    limits = read_thresholds([*(threshold or ()), *thresholds])
    _check_choice("severity", fail_on, FAIL_ON)
    _check_choice("format", format_name, FORMATS)
    work = find(source, arguments, module=module).of_rank(rank, one=False)
    target = None if format_name == "text" else Target("-")
    checks = LiveChecks(limits, first=first, shown=target is None)
    numeric = numeric or "numeric" in late
    recorded, findings = _checked(work, limits, checks, numeric=numeric)
    if target is None or not leads():
        print_findings(findings)
    if target is not None:
        target.write(REPORTS[format_name](findings, _about(recorded.trace)))
    failed = recorded.exit_code or int(recorded.trace.error is not None)
    if not recorded.made and not findings and not failed:
        raise NothingRecordedError("no backward pass was recorded", "call backward() or autograd.grad() in the script")
    say(summary(findings, recorded.made) if findings or not failed else FAILED.format(passes=recorded.made))
    if target is None and checks.functions and not numeric:
        say(f"--numeric compares the backward of {first_few(checks.functions)} with finite differences")
    raise typer.Exit(failed or int(_bad_enough(findings, fail_on)))


def _checked(
    work: Work, limits: Thresholds, checks: LiveChecks, *, numeric: bool
) -> tuple[Recorded, tuple[Finding, ...]]:
    """Return what was recorded, or loaded, and the findings; a script's passes are checked while it runs."""
    if work.trace is not None:
        return work.record(None, explain=False), run(work.trace, limits)
    recorded = work.record(None, explain=False, numeric=numeric, consume=checks.see, at_once=checks.first)
    return recorded, checks.found(recorded.trace)


def _about(trace: Trace) -> About:
    script = trace.command[0] if trace.command[:1] and trace.command[0].endswith(".py") else ""
    return About({name: CHECKS[name].help for name in CHECKS}, script)


def _late(context: typer.Context) -> tuple[dict[str, str], list[str], list[str]]:
    """Return the options after SCRIPT, the thresholds among them, and the script's arguments."""
    thresholds: list[str] = []

    def keeps(text: str) -> bool:
        if is_threshold(text):
            thresholds.append(text)
        return is_threshold(text)

    options = (
        Late("json", ("--json",)),
        Late("numeric", ("--numeric",)),
        Late("exitfirst", ("-x", "--exitfirst")),
        Late("fail-on", ("--fail-on",), lambda value: value in FAIL_ON, FAIL_ON),
        Late("threshold", ("--threshold",), keeps),
        Late("format", ("-f", "--format"), lambda value: value in FORMATS, FORMATS),
    )
    late, arguments = take_late(context, options)
    return late, thresholds, arguments


def _check_choice(kind: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UnknownNameError.of(kind, value, choices)


def _bad_enough(findings: Sequence[Finding], fail_on: str) -> bool:
    worst: tuple[Literal["error", "warning", "info"], ...] = SEVERITIES[: FAIL_ON.index(fail_on) + 1]
    return fail_on != "never" and any(finding.severity in worst for finding in findings)
