"""What helps at the command line: ``-h``, its examples, what may be left out, and completion in three shells."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import gradtrace
from gradtrace.cli import COMMANDS, main, output
from gradtrace.cli.examples import EXAMPLES, EXIT_CODES
from tests.scripts import write

TRAIN = """
    import torch
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    for step in range(100):
        w.grad = None
        (w**2).sum().backward()
"""


@dataclass
class Done:
    """What a command left: what it printed, its exit code, and the files that it made or changed."""

    out: str
    err: str
    code: int
    files: set[str]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a script, traces of it, and a document."""
    made = tmp_path_factory.mktemp("saved")
    write(made, train=TRAIN)
    (made / "README.md").write_text("<!-- gradtrace: train.py format=text -->\n<!-- /gradtrace -->\n")
    with gradtrace.record() as recording:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        (w**2).sum().backward()
    for name in ("before.json", "after.json", "run.json.gz"):
        recording.trace.save(made / name)
    return made


@pytest.fixture
def call(saved, tmp_path, monkeypatch, capfd):
    """Run a command in this process, in a folder with a script and traces, and return what it did."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("gradtrace.cli.view._wait", lambda: 0)  # a reader who ends the page at once
    monkeypatch.setattr("webbrowser.open", lambda _: True)

    def run(*arguments):
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        monkeypatch.setattr(sys, "argv", ["gradtrace", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        changed = {name for name, when in after.items() if before.get(name) != when}
        return Done(*capfd.readouterr(), ended.value.code or 0, changed - {"__pycache__"})

    return run


def test_minus_h_is_help_for_each_command_and_for_gradtrace(call):
    assert call("-h").out == call("--help").out
    for name in COMMANDS:
        assert call(name, "-h").out == call(name, "--help").out


def test_the_list_of_commands_is_not_cut_and_fits_80_columns(call):
    text = call("-h").out
    assert "..." not in text.replace("[ARGS]...", "")
    assert max(map(len, text.splitlines())) <= 80
    assert all(re.search(rf"^  {name} +\w.*\.$", text, re.MULTILINE) for name in EXIT_CODES)


@pytest.mark.parametrize("name", EXIT_CODES)
def test_the_help_of_a_command_has_examples_exit_codes_and_named_values(name, call):
    text = call(name, "-h").out
    assert "Examples:\n" in text
    assert "Exit codes: 0" in text
    assert all(command in text for command, _ in EXAMPLES[name])
    assert not re.search(r"<\w+( range)?>", text)


EVERY = [command for examples in EXAMPLES.values() for command, _ in examples]


@pytest.mark.parametrize("command", EVERY)
def test_an_example_of_the_help_does_what_it_says(command, call):
    done = call(*shlex.split(command)[1:])
    stale = command == "gradtrace embed --check README.md"
    assert done.code == int(stale), done
    assert set(re.findall(r"-o (\S+\.\S+)", command)) <= done.files


def test_render_may_be_left_out(call):
    assert call("train.py").files == call("render", "train.py").files


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train.py", "-f", "svgg", "-o", "x.svg"), "gradtrace has no format 'svgg', perhaps you meant 'svg'"),
        (("train.py", "1", "-o", "x.svg"), "-o was passed to the script: gradtrace's own options"),
        (("train.py", "--depth", "2"), "--depth was passed to the script"),
        (("train.py", "--", "-f", "svgg"), ""),
        (("train.py", "--lr", "3"), ""),
    ],
)  # fmt: skip
def test_an_option_that_goes_to_the_script_although_it_looks_like_ours_is_told(call, arguments, said):
    done = call("render", *arguments)
    assert done.files == {"train.svg"}
    assert ("was passed to the script" in done.err) == bool(said)
    assert said in done.err


def test_a_pass_that_does_not_exist_is_told_with_the_number_of_those_that_do(call):
    done = call("render", "--pass", "500", "train.py")
    assert (done.code, done.files) == (3, set())
    assert done.err == "gradtrace: the script made 100 backward passes; there is no pass 500\n"
    both = call("render", "--pass", "1,500", "-o", "a.dot", "train.py")
    assert (both.code, both.files) == (3, {"a-1.dot"})
    assert "there is no pass 500" in both.err


def test_render_says_that_it_checked_one_pass_of_many(call):
    done = call("render", "train.py")
    assert "only pass 100 was checked; gradtrace check looks at all 100" in done.err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_told_what_takes_long_and_the_line_is_removed_again(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(output, "_stderr", lambda: terminal)
    with output.busy("drawing 1,000 nodes"):
        assert terminal.getvalue() == "gradtrace: drawing 1,000 nodes ...\x1b[K\r"
    assert terminal.getvalue().endswith("\r\x1b[K\r")


def test_a_pipe_is_told_nothing_of_what_takes_long(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(output, "_stderr", lambda: pipe)
    with output.busy("saving"):
        pass
    assert pipe.getvalue() == ""


def test_record_takes_a_script_and_no_trace(call):
    done = call("record", "-o", "again.json", "run.json.gz")
    assert (done.code, done.files) == (2, set())
    assert "'run.json.gz' is a saved trace, not a script" in done.err


def script_for(shell, folder):
    command = Path(sys.executable).parent / "gradtrace"
    made = subprocess.run(
        [command], env=os.environ | {"_GRADTRACE_COMPLETE": f"source_{shell}"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    path = folder / f"complete.{shell}"
    path.write_text(made.stdout)
    return path


def screen(command, typed, expected, folder):
    """Return what an interactive shell shows after ``typed``, as soon as ``expected`` is there."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process, master = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, os.environ | {"PATH": path, "TERM": "dumb", "PS1": "$ "})
    shown = b""
    try:
        os.write(master, typed.encode())
        end = time.monotonic() + 20
        while expected.encode() not in shown.replace(typed.encode(), b"") and time.monotonic() < end:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 1000)
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(master)
    return shown.decode(errors="replace")


def needs(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab_completes_commands_and_formats_in_the_shell(shell, tmp_path):
    needs(shell)
    script = script_for(shell, tmp_path)
    start = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    load = {"bash": f"source {script}\n", "zsh": f"autoload -U compinit; compinit -u -D; source {script}\n"}[shell]
    for typed, completed in (("gradtrace exp", "explain"), ("gradtrace render -f merm", "mermaid")):
        rest = completed.removeprefix(typed.rpartition(" ")[2])
        assert rest in screen(start, f"{load}{typed}\t", rest, tmp_path)


def test_fish_completes_commands_formats_and_files(tmp_path):
    needs("fish")
    write(tmp_path, train=TRAIN)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def completed(typed):
        asked = f"source {script_for('fish', tmp_path)}; complete -C {shlex.quote(typed)}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", asked], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert completed("gradtrace exp") == ["explain"]
    assert completed("gradtrace render -f merm") == ["mermaid"]
    assert "train.py" in completed("gradtrace render tr")
