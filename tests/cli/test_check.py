"""``gradtrace check`` and ``gradtrace checks``, as a user calls them."""

from __future__ import annotations

import gzip
import json
import linecache
import os
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest

from gradtrace.cli import main
from gradtrace.model import Finding
from tests.checking import restored

DATA = Path(__file__).parents[1] / "data"
MASKED = """
import sys
import torch
print("hello", *sys.argv[1:])
x = torch.tensor([4., 0.], requires_grad=True)
torch.where(x > 0, x.sqrt(), 0.).sum().backward()
"""
WARNING = """
import torch
x = torch.tensor([2.2, 3.3], requires_grad=True)
x.round().sum().backward()
"""
HEALTHY = "import torch\nx = torch.ones(2, requires_grad=True)\nx.sum().backward()\n"
DIES = "import torch\nx = torch.ones(2, requires_grad=True)\ny = x.exp()\ny.add_(1)\ny.sum().backward()\n"


@pytest.fixture
def gradtrace(tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(script, *arguments):
        (tmp_path / "train.py").write_text(script)
        kept = os.dup(1)
        with restored(), open(1, "w", closefd=False) as out:  # pytest's own stdout does not go by its number
            monkeypatch.setattr(sys, "stdout", out)
            sys.argv = ["gradtrace", *arguments]
            with pytest.raises(SystemExit) as ended:
                main()
        os.dup2(kept, 1)
        os.close(kept)
        code = ended.value.code
        return (code or 0, *capfd.readouterr())

    return call


def test_a_report_names_the_check_and_the_line_and_the_exit_code_is_1(gradtrace):
    code, out, err = gradtrace(MASKED, "check", "train.py")
    assert (code, out) == (1, "hello\n")
    assert err.startswith("✗ nonfinite-origin  train.py:6, pass 1\n")
    assert err.endswith("gradtrace: 1 error in 1 backward pass\n")
    assert max(map(len, err.splitlines())) <= 100


def test_a_healthy_script_ends_with_0(gradtrace):
    assert gradtrace(HEALTHY, "check", "train.py") == (0, "", "gradtrace: no findings in 1 backward pass\n")


@pytest.mark.parametrize("arguments", [["--json", "train.py"], ["train.py", "--json"]])
def test_json_is_a_list_of_findings_alone_on_stdout_wherever_the_option_stands(arguments, gradtrace):
    code, out, err = gradtrace(MASKED, "check", *arguments)
    (found,) = msgspec.json.decode(out.encode(), type=list[Finding])
    assert (code, found.check, found.source.text) == (1, "nonfinite-origin", "x.sqrt()")
    assert err.startswith("hello\n")


def test_arguments_that_are_not_ours_are_the_scripts(gradtrace):
    _, out, _ = gradtrace(MASKED, "check", "train.py", "--fail-on", "never", "--epochs", "3", "--json")
    assert out == "hello --epochs 3 --json\n"


@pytest.mark.parametrize(("fail_on", "expected"), [("error", 0), ("warning", 1), ("info", 1), ("never", 0)])
def test_the_severity_that_fails_can_be_chosen(fail_on, expected, gradtrace):
    assert gradtrace(WARNING, "check", "--fail-on", fail_on, "train.py")[0] == expected


def test_a_saved_trace_has_the_same_findings(gradtrace):
    gradtrace(MASKED, "record", "-o", "run.json", "train.py")
    code, out, _ = gradtrace(MASKED, "check", "run.json", "--json")
    fresh = gradtrace(MASKED, "check", "train.py", "--json")
    assert (code, out) == fresh[:2]


def test_a_script_that_dies_is_1_with_its_traceback_and_the_explanation_once(gradtrace):
    code, _, err = gradtrace(DIES, "check", "train.py")
    assert code == 1
    assert err.index("Traceback") < err.index("modified-in-place  train.py:4")
    assert err.count("modified-in-place") == 1


@pytest.mark.parametrize("command", [["render", "-o", "x.json"], ["record", "-o", "x.json"]])
def test_other_commands_explain_the_error_under_its_traceback(command, gradtrace):
    code, _, err = gradtrace(DIES, *command, "train.py")
    assert code == 1
    assert err.index("RuntimeError") < err.index("modified-in-place  train.py:4")


def test_a_script_that_ends_itself_keeps_its_exit_code(gradtrace):
    assert gradtrace(f"{MASKED}\nsys.exit(7)", "check", "train.py")[0] == 7


def test_nothing_recorded_is_3(gradtrace):
    code, _, err = gradtrace("print('no torch here')", "check", "train.py")
    assert code == 3
    assert "no backward pass" in err


def test_github_annotations_stand_on_the_line(gradtrace):
    _, out, _ = gradtrace(MASKED, "check", "--format", "github", "train.py")
    assert out.startswith("::error file=train.py,line=6,endLine=6,title=gradtrace%3A nonfinite-origin::SqrtBackward0")
    assert out.count("\n") == 1


def test_sarif_has_each_check_as_a_rule_and_the_place_of_each_result(gradtrace):
    _, out, _ = gradtrace(MASKED, "check", "train.py", "--format", "sarif")
    log = json.loads(out)
    (run,) = log["runs"]
    (result,) = run["results"]
    assert log["version"] == "2.1.0"
    assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    region = result["locations"][0]["physicalLocation"]["region"]
    text = MASKED.splitlines()[region["startLine"] - 1]
    assert text[region["startColumn"] - 1 : region["endColumn"] - 1] == "x.sqrt()"


UNREACHED = """
import torch
used, forgotten = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD([*used.parameters(), *forgotten.parameters()], 0.1)
used(torch.ones(1, 2)).sum().backward()
optimizer.step()
"""


@pytest.mark.parametrize("script", [MASKED, WARNING, DIES, HEALTHY, UNREACHED])
def test_sarif_keeps_to_its_schema_and_each_result_has_a_place(script, gradtrace):
    schema = json.loads(gzip.decompress((DATA / "sarif-2.1.0.json.gz").read_bytes()))
    log = json.loads(gradtrace(script, "check", "--format", "sarif", "train.py")[1])
    jsonschema.validate(log, schema)
    results = log["runs"][0]["results"]
    assert bool(results) == (script != HEALTHY)
    # A service refuses the whole file for one result without a place.
    assert all(r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "train.py" for r in results)


def test_a_sarif_result_is_known_again_when_lines_were_added_above_it(gradtrace):
    prints = []
    for script in (MASKED, f"# a comment\n{MASKED}", MASKED.replace("sqrt", "rsqrt")):
        linecache.clearcache()  # of the text of the script before
        (result,) = json.loads(gradtrace(script, "check", "--format", "sarif", "train.py")[1])["runs"][0]["results"]
        prints.append(result["partialFingerprints"])
    assert prints[0] == prints[1] != prints[2]


def test_a_sarif_uri_is_quoted(gradtrace, tmp_path):
    (tmp_path / "my träin.py").write_text(MASKED)
    log = json.loads(gradtrace("", "check", "--format", "sarif", "my träin.py")[1])
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "my%20tr%C3%A4in.py"


DEEP = """
import torch
h = x = torch.full((4,), 0.5, requires_grad=True)
for _ in range(40):
    h = 0.5 * torch.sin(h)
h.sum().backward()
"""


def test_a_threshold_is_set_on_the_command_line_and_told_with_the_finding(gradtrace):
    assert "vanishing=1e-06" in gradtrace(DEEP, "check", "train.py")[2]
    assert "no findings" in gradtrace(DEEP, "check", "--threshold", "vanishing=1e-30", "train.py")[2]
    assert "no findings" in gradtrace(DEEP, "check", "train.py", "--threshold", "vanishing=1e-30")[2]


def test_a_threshold_is_set_in_pyproject_and_the_command_line_wins(gradtrace, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.gradtrace.thresholds]\nvanishing = 1e-30\n")
    assert "no findings" in gradtrace(DEEP, "check", "train.py")[2]
    assert "vanishing=1e-30" in gradtrace(DEEP, "checks")[1]
    assert "1 warning" in gradtrace(DEEP, "check", "--threshold", "vanishing=1e-6", "train.py")[2]


def test_a_threshold_in_the_wrong_table_is_told_and_not_passed_over(gradtrace, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.gradtrace]\nvanishing = 1e-30\n")
    code, _, err = gradtrace(DEEP, "check", "train.py")
    assert code == 2
    assert "write it under [tool.gradtrace.thresholds]" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "vanish=1"], "unknown threshold 'vanish'; choose from vanishing, vanishing_layer, exploding"),
        (["--threshold", "vanishing=small"], "threshold 'vanishing' must be a number of 0 or more, not 'small'"),
        (["--fail-on", "fatal"], "unknown severity 'fatal'; choose from error, warning, info, never"),
        (["--format", "xml"], "unknown format 'xml'; choose from text, json, github, sarif"),
    ],
)
def test_wrong_usage_is_2_and_said_before_the_script_starts(arguments, said, gradtrace):
    code, out, err = gradtrace(MASKED, "check", *arguments, "train.py")
    assert (code, out) == (2, "")
    assert said in err


def test_checks_lists_each_check_with_its_thresholds(gradtrace):
    code, out, _ = gradtrace(HEALTHY, "checks")
    assert code == 0
    assert "nonfinite-origin   An op that turned a finite gradient into NaN or infinity." in out
    assert "--threshold exploding=1e+06" in out


LONG = """
import torch
from torch import nn
net = nn.Linear(2, 1)
opt = torch.optim.SGD(net.parameters(), 0.1)
for i in range(40):
    opt.zero_grad()
    loss = (net(torch.ones(3, 2)) * (0. if i < 6 else torch.inf)).sum()
    loss.backward()
    opt.step()
    print(i)
"""


def test_exitfirst_stops_the_script_at_the_first_error_with_exit_code_1(gradtrace):
    code, out, err = gradtrace(LONG, "check", "-x", "train.py")
    assert (code, out.split()) == (1, [str(i) for i in range(6)])
    assert "gradtrace: error nonfinite-forward at train.py:8 (pass 7, step 6)\n" in err
    assert "✗ nonfinite-forward  train.py:8, pass 7" in err
    assert err.endswith("gradtrace: 1 error in 7 backward passes\n")


def test_exitfirst_may_stand_after_the_script_and_leaves_a_healthy_one_alone(gradtrace):
    code, _, err = gradtrace(HEALTHY, "check", "train.py", "--exitfirst")
    assert (code, err) == (0, "gradtrace: no findings in 1 backward pass\n")


def test_exitfirst_runs_what_the_script_does_at_its_end(gradtrace):
    script = LONG.replace(
        "    loss.backward()", "    try:\n        loss.backward()\n    finally:\n        print('bye', i)"
    )
    _, out, _ = gradtrace(script, "check", "-x", "train.py")
    assert out.endswith("bye 6\n")


def test_a_finding_is_printed_when_it_is_first_found(gradtrace, monkeypatch):
    monkeypatch.setattr("gradtrace.cli.live.live_checks._QUIET", 0.0)
    code, out, err = gradtrace(LONG, "check", "train.py")
    assert (code, len(out.split())) == (1, 40)
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("gradtrace: error")] == [
        "gradtrace: error nonfinite-forward at train.py:8 (pass 7, step 6)"
    ]


def test_a_script_that_fails_is_not_said_to_have_no_findings(gradtrace):
    code, _, err = gradtrace("import torch\ntorch.ones(2) @ torch.ones(3)\n", "check", "train.py")
    assert code == 1
    assert "no findings" not in err
    assert err.endswith("gradtrace: the script failed, and none of its 0 backward passes has a finding\n")


CUSTOM = """
import torch
class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, g): return g * 2
x = torch.ones(2, requires_grad=True)
Double.apply(x).sum().backward()
"""


def test_a_custom_function_is_a_reason_to_say_what_numeric_does(gradtrace):
    _, _, err = gradtrace(CUSTOM, "check", "train.py")
    assert err.endswith("gradtrace: --numeric compares the backward of Double with finite differences\n")
    _, _, err = gradtrace(CUSTOM, "check", "--numeric", "train.py")
    assert "--numeric" not in err
