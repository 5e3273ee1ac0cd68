"""Formats and checks of third parties: a distribution of its own, installed by pip, sound and faulty."""

import base64
import csv
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gradtrace import tracefile
from gradtrace.errors import PluginError
from gradtrace.formats.base import Style, drawn
from gradtrace.model import Node
from gradtrace.registry import Plugin
from tests.builders import partials, scalar, trace

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
NAUGHTY = 'a, "b"\nc'  # a name that breaks what is no CSV
FORMAT = "from gradtrace.plugins import register\n@register({names})\ndef render(report, style):\n    {body}\n"
CHECK = "from gradtrace.plugins import check\n@check({names})\ndef checked(graph, limits):\n    {body}\n"
FAULTY = {
    "unimportable": "import nowhere_to_be_found",
    "exits": "raise SystemExit(3)",
    "taken": FORMAT.format(names="'svg'", body="return 'not yours'"),
    "ending": FORMAT.format(names="'mine', '.svg', '.mine'", body="return 'mine'"),
    "none": FORMAT.format(names="'none', '.none'", body="pass"),
    "raising": CHECK.format(names="'raising'", body="raise ZeroDivisionError('division\\nby zero')"),
    "nothing": CHECK.format(names="'nothing'", body="pass"),
    "threshold": CHECK.format(names="'theirs', thresholds={'layers': 3}", body="return ()"),
}
CHECKS = {"raising", "nothing", "threshold"}


def wheel(folder, name, modules, entry_points):
    """Write the wheel of a distribution with these modules, as a build backend would."""
    info = f"{name}-1.2.dist-info"
    files = {f"{name}_{module}.py": text for module, text in modules.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = "".join(f"[{group}]\n{lines}\n" for group, lines in entry_points.items())
    record = "".join(f"{path},sha256={digest(text)},{len(text.encode())}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    path = folder / f"{name}-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return path


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def installed(folder, name, modules, entry_points):
    """Install a distribution with pip into a folder."""
    target = folder / name
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", target, wheel(folder, name, modules, entry_points)], check=True)
    return target


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The format and the check that CONTRIBUTING.md shows, as a distribution."""
    points = {"gradtrace.formats": "csv = sound_csv", "gradtrace.checks": "huge = sound_huge"}
    return installed(tmp_path_factory.mktemp("sound"), "sound", {"csv": BLOCKS[0], "huge": BLOCKS[1]}, points)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """A distribution of plugins of which each has a fault of its own."""
    lines = {module: f"{module} = faulty_{module}" for module in FAULTY}
    points = {
        "gradtrace.formats": "\n".join(lines[module] for module in FAULTY if module not in CHECKS),
        "gradtrace.checks": "\n".join(lines[module] for module in CHECKS),
    }
    return installed(tmp_path_factory.mktemp("faulty"), "faulty", FAULTY, points)


@pytest.fixture
def saved(tmp_path):
    """A trace file with a healthy pass, and a node whose name is not made for CSV."""
    graph = partials()
    odd = Node("n99", "leaf", "AccumulateGrad", name=NAUGHTY, grads=(scalar(2000.0),))
    tracefile.save(trace(type(graph)(1, "backward", (*graph.nodes, odd), graph.edges)), tmp_path / "t.json")
    return tmp_path / "t.json"


def gradtrace(packages, *arguments):
    """Run gradtrace as a command with these packages installed."""
    environment = os.environ | {"PYTHONPATH": str(packages)}
    command = [sys.executable, "-m", "gradtrace", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def told(module, what=""):
    """Return how a line on a fault begins: what it is of, and what brought it."""
    return f"gradtrace:{what} faulty 1.2 (entry point {module} = faulty_{module})".replace("`", "'")


def test_the_format_of_contributing_is_listed_and_writes_csv_that_a_reader_reads_back(sound, saved, tmp_path):
    assert (
        "csv        .csv             A row for each node: id, name, gradient.\n" in gradtrace(sound, "formats").stdout
    )
    run = gradtrace(sound, "render", "-o", tmp_path / "t.csv", saved)
    assert run.returncode == 0, run.stderr
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "name", "gradient"]
    assert ["n99", 'a, "b" c', "2000"] in rows
    assert {len(row) for row in rows} == {3}


def test_the_check_of_contributing_speaks_and_its_threshold_is_its_own(sound, saved):
    run = gradtrace(sound, "check", saved)
    assert "huge" in run.stderr
    assert "thresholds: huge=1000" in run.stderr
    assert "huge" not in gradtrace(sound, "check", "--threshold", "huge=3000", saved).stderr
    assert "--threshold huge=1000\n" in gradtrace(sound, "checks").stdout


def test_each_faulty_format_is_told_in_a_line_and_all_others_are_listed(faulty):
    run = gradtrace(faulty, "formats")
    assert run.returncode == 0
    assert {"svg", "json", "none", "mine"} <= {line.split()[0] for line in run.stdout.splitlines()}
    assert set(run.stderr.splitlines()) == {
        f"{told('unimportable')} is left out: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        f"{told('exits')} is left out: SystemExit: 3",
        f"{told('taken', ' format `svg` of')} is left out: the name is taken by gradtrace.formats.svg",
        f"{told('ending', ' file ending `.svg` of format `mine` of')} is left out: it is that of 'svg'",
    }


def test_a_faulty_check_is_told_in_a_line_and_all_others_are_asked(faulty, saved):
    run = gradtrace(faulty, "check", saved)
    assert run.returncode == 0, run.stderr
    *lines, last = run.stderr.splitlines()
    assert last == "gradtrace: no findings in 1 backward pass"
    assert len(lines) == len(CHECKS)
    assert f"{told('raising', ' check `raising` of')} is left out: ZeroDivisionError: division by zero\n" in run.stderr
    assert f"{told('nothing', ' check `nothing` of')} is left out: TypeError: it gave NoneType" in run.stderr
    assert f"{told('threshold')} is left out: GradtraceError: threshold 'layers' of check 'theirs'" in run.stderr


def test_a_format_that_returns_none_is_an_error_of_that_format_alone(faulty, saved, tmp_path):
    run = gradtrace(faulty, "render", "-o", tmp_path / "t.none", saved)
    assert run.returncode == 2
    failed = (
        f"{told('none', ' format `none` of')} failed: it returned NoneType, not text or bytes; report it to its authors"
    )
    assert failed in run.stderr.splitlines()
    assert not (tmp_path / "t.none").exists()
    assert gradtrace(faulty, "render", "-o", tmp_path / "t.svg", saved).returncode == 0


def test_in_a_notebook_a_format_that_raises_is_an_error_with_its_cause_behind_it():
    def broken(_report, _style):
        raise ValueError("no such thing")

    with pytest.raises(PluginError, match="failed: ValueError: no such thing; report it to its authors") as caught:
        drawn(Plugin("broken", broken), None, Style())
    assert isinstance(caught.value.__cause__, ValueError)
