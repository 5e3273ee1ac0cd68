"""Streams that can't be written: full, closed, without a reader. One line where it can be written, and exit 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradtrace.tracefile import save
from tests.builders import trace

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
COMMANDS = {
    "render": ["render", "run.json", "-f", "dot", "-o", "-"],
    "render svg": ["render", "run.json", "-f", "svg", "-o", "-"],
    "record": ["record", "-o", "-", "script.py"],
    "check": ["check", "--json", "run.json"],
    "check sarif": ["check", "-f", "sarif", "run.json"],
    "explain": ["explain", "run.json"],
    "diff": ["diff", "run.json", "run.json", "--json"],
    "formats": ["formats"],
    "checks": ["checks"],
    "help": ["--help"],
    "version": ["--version"],
}


@pytest.fixture
def folder(tmp_path):
    save(trace(), tmp_path / "run.json")
    (tmp_path / "script.py").write_text("import torch\ntorch.ones(2, requires_grad=True).sum().backward()\n")
    return tmp_path


def run(folder, arguments, **streams):
    command = [sys.executable, "-m", "gradtrace", *arguments]
    return subprocess.run(command, cwd=folder, text=True, check=False, **{"stderr": subprocess.PIPE, **streams})


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_full_stdout_is_told_in_a_line(arguments, folder):
    with FULL.open("w") as full:
        done = run(folder, arguments, stdout=full)
    assert done.stderr.splitlines()[-1] == "gradtrace: stdout can't be written: no space left on device"
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("name", ["render", "check", "formats"])
def test_a_stdout_that_nobody_reads_ends_the_command_without_a_traceback(name, folder):
    reading, writing = os.pipe()
    os.close(reading)
    done = run(folder, COMMANDS[name], stdout=writing)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode in {1, 2}


@pytest.mark.parametrize("name", ["out.svg", "out.json"])
def test_a_full_stderr_takes_nothing_from_a_file_that_was_written(name, folder):
    with FULL.open("w") as full:
        done = run(folder, ["render", "run.json", "-o", name], stderr=full)
    assert done.returncode == 0
    assert (folder / name).stat().st_size > 500


def test_a_full_stderr_leaves_the_exit_code_of_an_error(folder):
    with FULL.open("w") as full:
        assert run(folder, ["render", "nowhere.json"], stderr=full).returncode == 2


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_are_closed_from_the_start_harm_nothing(closed, folder):
    for command in ("render run.json -o out.svg", "check run.json", "record -o out.json script.py"):
        line = f'"{sys.executable}" -m gradtrace {command} {closed}'
        assert subprocess.run(line, shell=True, cwd=folder, capture_output=True, check=False).returncode == 0
    assert (folder / "out.svg").exists()


def test_a_closed_stdout_is_told_where_it_was_asked_for(folder):
    done = run(folder, ["check", "--json", "run.json"], preexec_fn=lambda: os.close(1))
    assert done.stderr == "gradtrace: stdout can't be written: bad file descriptor\n"
    assert done.returncode == 2


def test_a_device_that_is_full_leaves_no_half_of_a_file(folder):
    (folder / "full.svg").symlink_to(FULL)
    done = run(folder, ["render", "run.json", "-o", "full.svg"])
    assert done.stderr.startswith("gradtrace: ")
    assert done.stderr.endswith("full.svg' can't be written: no space left on device\n")
    assert done.returncode == 2
    assert sorted(path.name for path in folder.iterdir()) == ["full.svg", "run.json", "script.py"]
