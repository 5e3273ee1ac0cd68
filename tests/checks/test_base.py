"""The driver: which checks run, what is merged, what is left out; on traces made by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gradtrace.checks.base import _TRAITS, CHECKS, Thresholds, check, default_thresholds
from gradtrace.checks.checker import run
from gradtrace.errors import UnknownNameError
from gradtrace.model import Finding
from tests.builders import line, partials, trace


@pytest.fixture
def register():
    """Registers checks for one test."""
    names = []

    def add(name, **traits):
        names.append(name)
        return check(name, **traits)

    list(CHECKS)  # so that our own are there before
    yield add
    for name in names:
        del CHECKS._plugins[name], _TRAITS[name]


def passes(count):
    return trace(*(replace(partials(), index=index) for index in range(1, count + 1)))


def test_a_healthy_pass_has_no_findings():
    assert run(trace()) == ()


def test_the_same_finding_over_500_passes_is_one_with_a_count_and_the_first_pass(register):
    @register("from-the-third")
    def late(graph, _):
        """Found from the third pass on."""
        if graph.index > 2:
            yield Finding("from-the-third", "warning", f"pass {graph.index}", nodes=("n1",), source=line("u*v"))

    (found,) = run(passes(500), names=["from-the-third"])
    assert (found.message, found.pass_index, found.count) == ("pass 3", 3, 498)


def test_findings_on_different_lines_stay_apart(register):
    @register("lines")
    def lines(graph, _):
        """One on each of two lines, and one twice on the first."""
        yield Finding("lines", "info", "a", nodes=("n1",), source=line("a", 1))
        yield Finding("lines", "info", "b", nodes=("n2",), source=line("b", 2))
        yield Finding("lines", "info", "a again", nodes=("n3",), source=line("a", 1))

    assert [(f.message, f.nodes, f.count) for f in run(passes(2), names=["lines"])] == [
        ("a", ("n1", "n3"), 2),
        ("b", ("n2",), 2),
    ]


def test_a_consequence_is_left_out_where_its_cause_was_found_even_if_the_cause_was_not_asked_for(register):
    @register("cause")
    def cause(graph, _):
        """In the first pass only."""
        if graph.index == 1:
            yield Finding("cause", "error", "the cause")

    @register("consequence", after=("cause",))
    def consequence(graph, _):
        """In every pass."""
        yield Finding("consequence", "error", "the consequence")

    assert [(f.check, f.pass_index) for f in run(passes(2), names=["cause", "consequence"])] == [
        ("cause", 1),
        ("consequence", 2),
    ]
    assert [(f.check, f.pass_index) for f in run(passes(2), names=["consequence"])] == [("consequence", 2)]


def test_the_worst_come_first_and_thresholds_are_told(register):
    @register("mild", uses=("vanishing",))
    def mild(_, limits):
        """A warning."""
        yield Finding("mild", "warning", f"below {limits.vanishing}")

    @register("grave", whole=True)
    def grave(_, __):
        """An error of the whole run."""
        yield Finding("grave", "error", "the run")

    found = run(trace(), Thresholds(vanishing=0.5), ["mild", "grave"])
    assert [f.check for f in found] == ["grave", "mild"]
    assert (found[1].message, found[1].thresholds) == ("below 0.5", {"vanishing": 0.5})
    assert found[0].thresholds == {}


def test_an_unknown_check_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="nonfinite-origin"):
        run(trace(), names=["nonfinit"])


def test_each_check_has_a_line_of_help_and_known_thresholds():
    for name in CHECKS:
        assert CHECKS[name].help.endswith(".")
        assert name == name.lower()
        assert set(_TRAITS[name].uses) <= set(default_thresholds())
        assert all(cause in CHECKS for cause in _TRAITS[name].after)
