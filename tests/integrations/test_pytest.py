"""The pytest plugin and its fixture, in a pytest of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch  # noqa: F401 - it can't be imported a second time, so it must be there before pytester looks

pytest_plugins = ["pytester"]

FAULTY = """
import pytest
import torch

def masked(x):
    return torch.where(x > 0, x.sqrt(), 0.).sum()

def test_faulty():
    masked(torch.tensor([4., 0.], requires_grad=True)).backward()

def test_healthy():
    masked(torch.tensor([4., 1.], requires_grad=True)).backward()

def test_fixture(gradtrace):
    x = torch.tensor([4., 0.], requires_grad=True)
    (found,) = gradtrace.check(masked(x))
    assert found.check == "nonfinite-origin"
    assert found.source.text == "x.sqrt()"
    assert x.grad is None
    with pytest.raises(AssertionError, match="x.sqrt"):
        gradtrace.assert_healthy(masked(x))
    gradtrace.assert_healthy(masked(x + 1))
"""


@pytest.fixture
def run(pytester, request):
    """Runs pytest on the tests in a file, with the plugin whether it is installed or not."""
    installed = request.config.pluginmanager.hasplugin("gradtrace")
    plugin = [] if installed else ["-p", "gradtrace.integrations.pytest"]

    def call(code, *arguments):
        pytester.makepyfile(code)
        return pytester.runpytest_inprocess(*plugin, "-p", "no:cacheprovider", *arguments)

    return call


def test_findings_stand_below_the_results_by_test(run):
    result = run(FAULTY, "--gradtrace")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["*gradtrace findings*", "*::test_faulty", "*.py:5: error nonfinite-origin: SqrtBackward0 `x.sqrt()`*"]
    )
    assert result.stdout.str().count("nonfinite-origin") == 1


def test_a_finding_of_many_tests_is_told_once_after_their_names(run):
    many = FAULTY.replace("def test_faulty():", "@pytest.mark.parametrize('n', range(7))\ndef test_faulty(n):")
    result = run(many, "--gradtrace")
    result.stdout.fnmatch_lines(["*::test_faulty?0?", "*::test_faulty?4?", "and 2 more tests", "*sqrt()*", "  → mask*"])
    assert result.stdout.str().count("nonfinite-origin") == 1


def test_under_xdist_findings_of_all_processes_arrive_in_the_order_of_the_tests(pytester, request):
    plugin = [] if request.config.pluginmanager.hasplugin("gradtrace") else ["-p", "gradtrace.integrations.pytest"]
    pytester.makepyfile(test_a=FAULTY, test_b=FAULTY)
    result = pytester.runpytest_subprocess(*plugin, "-p", "no:cacheprovider", "--gradtrace", "-n", "2")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["*gradtrace findings*", "test_a.py::test_faulty", "*", "*", "", "test_b.py::test_faulty"]
    )


def test_without_the_option_nothing_is_recorded_and_the_fixture_works(run):
    result = run(FAULTY)
    result.assert_outcomes(passed=3)
    assert "gradtrace findings" not in result.stdout.str()


def test_a_test_that_fails_tells_its_findings_all_the_same(run):
    code = """
    import torch
    def test_dies():
        x = torch.ones(2, requires_grad=True)
        y = x.exp()
        y.add_(1)
        y.sum().backward()
    """
    result = run(code, "--gradtrace")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*modified-in-place: ExpBackward0 `x.exp()`*"])


def test_the_plugin_imports_no_torch_by_itself():
    code = "import sys, gradtrace.integrations.pytest; sys.exit(any(m.split('.')[0] == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fail_on_makes_a_test_fail_that_has_a_finding(run):
    result = run(FAULTY, "--gradtrace-fail-on=error")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*gradtrace found*", "*.py:5: error nonfinite-origin: SqrtBackward0 `x.sqrt()`*"])


def test_fail_on_leaves_a_test_alone_whose_findings_are_not_so_bad(run):
    code = "import torch\n\ndef test_flat():\n    x = torch.tensor([2.2, 3.3], requires_grad=True)\n"
    code += "    x.round().sum().backward()\n"
    run(code, "--gradtrace-fail-on=error").assert_outcomes(passed=1)
    run(code, "--gradtrace-fail-on=warning").assert_outcomes(failed=1)


def test_fail_on_keeps_what_a_test_fails_with_itself(run):
    code = "import torch\n\ndef test_wrong():\n    torch.zeros(1, requires_grad=True).sqrt().backward()\n"
    code += "    assert 1 == 2\n"
    result = run(code, "--gradtrace-fail-on=error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])
