"""Wrong input: one clear line on stderr and exit code 2, before the script runs and before torch is imported."""

from __future__ import annotations

import gzip
import json
import os
import sys

import pytest

from gradtrace import tracefile
from gradtrace.cli import main
from tests.builders import trace

SCRIPT = "import pathlib; pathlib.Path('ran').touch()"


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run the command in a folder with a script and a trace; return its exit code and what it said."""
    (tmp_path / "script.py").write_text(SCRIPT)
    tracefile.save(trace(), tmp_path / "trace.json")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradtrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert not (tmp_path / "ran").exists()
        assert out == ""
        return ended.value.code, err

    return run


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path.name


def whole(tmp_path):
    return (tmp_path / "trace.json").read_bytes()


SCRIPTS = {
    "no such file": (lambda _: "missing.py", "no such file: 'missing.py'"),
    "a directory": (lambda folder: (folder / "empty").mkdir() or folder / "empty", "has no __main__.py"),
    "not Python": (lambda f: write(f / "data.bin", bytes(range(256))), "data.bin"),
    "not Python, but text": (lambda f: write(f / "notes.txt", "dear reader, hello there"), "not valid Python"),
    "a syntax error": (lambda f: write(f / "wrong.py", "x = 1\ny = (2 +\n"), "wrong.py, line 2"),
    "an indentation error": (lambda f: write(f / "wrong.py", "if 1:\nx = 1"), "line 2"),
    "a wrong encoding": (lambda f: write(f / "wrong.py", b"# coding: nonsense\n"), "not valid Python"),
    "bytes that are no UTF-8": (lambda f: write(f / "wrong.py", b"x = '\xff'"), "not valid Python"),
}
TRACES = {
    "truncated": (lambda f: write(f / "short.json", whole(f)[:-20]), "short.json"),
    "truncated, compressed": (lambda f: write(f / "short.json.gz", gzip.compress(whole(f))[:-20]), "short.json.gz"),
    "empty": (lambda f: write(f / "empty.json", ""), "empty.json"),
    "not ours": (lambda f: write(f / "package.json", '{"name": "left-pad"}'), "package.json"),
    "not even an object": (lambda f: write(f / "list.json", "[1, 2]"), "list.json"),
    "from a newer version": (
        lambda f: write(f / "new.json", json.dumps(json.loads(whole(f)) | {"format_version": 99})), "99",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["render", "record"])
@pytest.mark.parametrize("name", [*SCRIPTS, *TRACES])
def test_what_can_not_be_run_or_read_is_said_in_one_line(name, command, call, tmp_path):
    make, said = (SCRIPTS | TRACES)[name]
    code, err = call(command, "-o", "out.json", make(tmp_path))
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("gradtrace: ")
    assert said in err
    assert not (tmp_path / "out.json").exists()


OUTPUTS = {
    "an unknown ending": ("picture.gif", "choose from"),
    "no ending": ("picture", "choose from"),
    "a folder that does not exist": ("nowhere/picture.svg", "no such folder 'nowhere'"),
    "a directory": (".", ""),
    "a folder that is a file": ("script.py/picture.svg", "script.py"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_can_not_be_written_is_said_before_the_script_runs(name, call):
    output, said = OUTPUTS[name]
    code, err = call("render", "-o", output, "script.py")
    assert (code, len(err.splitlines())) == (2, 1)
    assert said in err


@pytest.mark.parametrize("command", ["render", "record"])
def test_a_folder_without_permission_is_said_before_the_script_runs(command, call, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir(mode=0o500)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: "locked" not in str(path) and may(path, mode, **more))
    code, err = call(command, "-o", "locked/out.json", "script.py")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "no permission" in err


def test_an_unknown_format_lists_the_known_ones(call):
    code, err = call("render", "-f", "gif", "script.py")
    assert code == 2
    assert "'gif'" in err
    assert all(name in err for name in ("dot", "json", "pdf", "png", "svg", "text"))


OPTIONS = {
    "an unknown engine": (["--engine", "neato"], "'neato'"),
    "an unknown style": (["--style", "fancy"], "choose from gradtrace, torchviz"),
    "no pass zero": (["--pass", "0"], "a number from 1"),
    "no pass of that name": (["--pass", "first"], "a number from 1"),
    "a list with a hole": (["--pass", "1,,2"], "a number from 1"),
    "several passes to stdout": (["--pass", "1,2", "-o", "-"], "stdout"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_wrong_option_is_said_before_the_script_runs(name, call):
    options, said = OPTIONS[name]
    code, err = call("render", *options, "script.py")
    assert (code, len(err.splitlines())) == (2, 1)
    assert said in err


def test_what_only_the_command_line_can_get_wrong_is_exit_code_2_too(call):
    assert call("render")[0] == 2
    assert call("render", "--colour", "script.py")[0] == 2
    assert call("paint", "script.py")[0] == 2
    assert call("render", "--timeout", "0", "script.py")[0] == 2
    assert call("record", "script.py")[0] == 2
    assert call("render", "trace.json", "argument")[0] == 2
    assert call("render", "--pass", "7", "trace.json")[0] == 2


@pytest.mark.parametrize("name", ["no.such.module", "tests", "os.path.nothing", ".relative", ""])
def test_a_module_that_can_not_be_run_is_said_in_one_line(name, call):
    code, err = call("render", "-m", name)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "module" in err


def test_a_module_with_a_syntax_error_is_said_in_one_line(call, tmp_path):
    write(tmp_path / "wrong.py", "x = = 1")
    code, err = call("render", "-m", "wrong")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "not valid Python" in err
