"""The pytest plugin: ``pytest --gradtrace`` tells what is wrong with the backward passes of each test.

The fixture ``gradtrace`` checks one tensor: ``gradtrace.check(loss)``, ``gradtrace.assert_healthy(loss)``.
pytest loads this at its start, so nothing here imports torch, or anything of ours that takes time, until a
test has done so.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import torch

    from gradtrace.model import Finding, Severity
    from gradtrace.recording.recorder import Recorder

__all__ = ["Gradtrace"]

PROPERTY = "gradtrace"
Reported = dict[str, list[str]]
_TESTS = 5  # told of those that have the same finding
REPORTED = pytest.StashKey[Reported]()


class Gradtrace:
    """The fixture's value: findings in the graph of a tensor that the test computed."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def check(self, *tensors: torch.Tensor) -> tuple[Finding, ...]:
        """Return what is wrong with the backward pass from these tensors.

        Args:
            tensors: outputs with a graph, seeded with ones of their shape; no ``.grad`` is touched.

        Returns:
            The findings, the worst first.

        Raises:
            TensorError: a tensor has no graph.
        """
        from msgspec.structs import replace

        from gradtrace.checks.checker import run
        from gradtrace.recording.seeded_pass import seed

        seed(self._recorder, tensors)
        trace = self._recorder.trace
        return run(replace(trace, passes=trace.passes[-1:]))

    def assert_healthy(self, *tensors: torch.Tensor, severity: Severity = "warning") -> None:
        """Check the backward pass from these tensors; raises AssertionError with findings of this severity or worse."""
        from gradtrace.checks.base import SEVERITIES
        from gradtrace.wording.findings import as_text

        __tracebackhide__ = True
        bad = SEVERITIES[: SEVERITIES.index(severity) + 1]
        findings = [finding for finding in self.check(*tensors) if finding.severity in bad]
        if findings:
            raise AssertionError(f"the backward pass is not healthy\n{as_text(findings)}")


@pytest.fixture
def gradtrace(request: pytest.FixtureRequest) -> Iterator[Gradtrace]:
    """Check the backward pass of a tensor: gradtrace.check(loss), gradtrace.assert_healthy(loss)."""
    with _recorder(request.config) as recorder:
        yield Gradtrace(recorder)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--gradtrace``."""
    group = parser.getgroup("gradtrace")
    group.addoption("--gradtrace", action="store_true", help="Check the backward passes of each test.")
    group.addoption(
        "--gradtrace-fail-on", metavar="SEVERITY", choices=("error", "warning", "info"), default=None,
        help="Let a test fail that has a finding of this severity or worse; implies --gradtrace.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what the tests report."""
    config.stash[REPORTED] = {}
    config.option.gradtrace |= config.option.gradtrace_fail_on is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Record the test's backward passes, if it can have any."""
    asked = item.config.getoption("--gradtrace") and "torch" in sys.modules
    if not asked or "gradtrace" in getattr(item, "fixturenames", ()):
        return (yield)
    from gradtrace.checks.checker import run
    from gradtrace.recording.isolation.tracebacks import strip
    from gradtrace.recording.script.crash import note_error

    with _recorder(item.config) as recorder:
        try:
            result = yield
        except Exception as error:
            note_error(recorder, error)
            strip(error)
            raise
        finally:
            findings = run(recorder.trace)
            if findings:
                item.user_properties.append((PROPERTY, [_line(finding) for finding in findings]))
    _fail_on(item.config.getoption("--gradtrace-fail-on"), findings)
    return result


def _fail_on(severity: Severity | None, findings: tuple[Finding, ...]) -> None:
    """Let the test that has run fail if one of these findings is as bad as that."""
    from gradtrace.checks.base import SEVERITIES

    __tracebackhide__ = True
    bad = SEVERITIES[: SEVERITIES.index(severity) + 1] if severity is not None else ()
    said = [_line(finding) for finding in findings if finding.severity in bad]
    if said:
        pytest.fail("gradtrace found\n" + "\n".join(said), pytrace=False)


def _recorder(config: pytest.Config) -> Recorder:
    from gradtrace.recording.recorder import Options, Recorder

    return Recorder(Options(facts=True), (str(config.rootpath),))


def _line(finding: Finding) -> str:
    from gradtrace.wording.findings import sentence
    from gradtrace.wording.nodes import location

    source = finding.source
    at = f"{location(source)}: " if source else ""
    hint = f"\n→ {finding.hint}" if finding.hint else ""
    return f"{at}{finding.severity} {finding.check}: {sentence(finding.message)}{hint}"


class _Collector:
    """Collects what the tests of all processes report (under pytest-xdist they run in others)."""

    def __init__(self, reported: Reported) -> None:
        self._reported = reported

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take over the findings of a test that has run."""
        if report.when == "call":
            for name, said in report.user_properties:
                if name == PROPERTY and isinstance(said, list):
                    self._reported[report.nodeid] = said


def pytest_sessionstart(session: pytest.Session) -> None:
    """Collect findings where reports come together."""
    config = session.config
    if config.getoption("--gradtrace"):
        config.pluginmanager.register(_Collector(config.stash[REPORTED]), "gradtrace-collector")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the findings below the results, as pytest prints warnings."""
    reported = config.stash[REPORTED]
    if not reported:
        return
    terminalreporter.section("gradtrace findings", yellow=True)
    tests: dict[str, list[str]] = {}  # of each finding: under pytest-xdist they arrive in any order
    for test in sorted(reported):
        for said in reported[test]:
            tests.setdefault(said, []).append(test)
    for said, where in tests.items():
        for test in where[:_TESTS]:
            terminalreporter.line(test)
        if len(where) > _TESTS:
            terminalreporter.line(f"and {len(where) - _TESTS} more tests")
        for line in said.split("\n"):
            terminalreporter.line(f"  {line}")
        terminalreporter.line("")
