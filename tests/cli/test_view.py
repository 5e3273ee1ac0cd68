"""``gradtrace view``: the script as under python, its passes on the page, and an end for both."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gradtrace import tracefile
from gradtrace.cli import main
from tests.builders import trace
from tests.scripts import default_signals

SCRIPT = """
import sys
import torch
w = torch.tensor(3.0, requires_grad=True)
for step in range({steps}):
    (w * w).backward()
    print("step", step, *sys.argv[1:], flush=True)
{end}
"""


@pytest.fixture
def view(tmp_path, monkeypatch, capfd):
    """Run the command in this process with a reader who ends the page at once; return code, stdout, stderr, pages."""
    monkeypatch.chdir(tmp_path)
    pages = []

    def ended(*arguments, script=""):
        if script:
            Path("train.py").write_text(script)
        monkeypatch.setattr(sys, "argv", ["gradtrace", "view", "--no-browser", *arguments])
        with pytest.raises(SystemExit) as code:
            main()
        out, err = capfd.readouterr()
        return code.value.code or 0, out, err, pages

    def wait():
        err = capfd.readouterr().err
        url = next(word for word in err.split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{url}pass?pass=1") as answer:
            pages.append(json.load(answer))
        return 0

    monkeypatch.setattr("gradtrace.cli.view._wait", wait)
    return ended


def test_a_script_is_run_with_its_arguments_and_its_passes_are_shown(view):
    code, out, _, pages = view("train.py", "--lr", "1", script=SCRIPT.format(steps=2, end=""))
    assert code == 0
    assert out == "" or out.splitlines() == ["step 0 --lr 1", "step 1 --lr 1"]
    assert [node["op"] for node in pages[0]["nodes"] if node["kind"] == "function"] == ["MulBackward0"]


def test_a_script_that_fails_is_shown_all_the_same_with_its_exit_code(view):
    code, _, _, pages = view("train.py", script=SCRIPT.format(steps=1, end="sys.exit(7)"))
    assert code == 7
    assert pages


@pytest.mark.parametrize(("end", "code"), [("", 3), ("raise ValueError", 1)])
def test_a_script_without_a_pass_has_no_page(view, end, code):
    found, _, err, pages = view("train.py", script=f"import torch\n{end}\n")
    assert found == code
    assert "nothing to show" in err or "no backward pass" in err
    assert pages == []


def test_a_saved_trace_is_shown_and_torch_is_not_needed(view, tmp_path):
    tracefile.save(trace(), tmp_path / "run.json")
    code, _, _, pages = view("run.json")
    assert code == 0
    assert len(pages[0]["nodes"]) == 8


def test_what_is_not_there_is_wrong_use(view):
    assert view("absent.py")[0] == 2
    assert view("absent.json")[0] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="not on Windows")
def test_ctrl_c_ends_both(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT.format(steps=100000, end="") + "import time; time.sleep(60)\n")
    command = [sys.executable, "-m", "gradtrace", "view", "--no-browser", "train.py"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with default_signals(), subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **streams) as run:
        assert run.stdout.readline() == "step 0\n"
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stdout.read()  # which ends when both have
        assert run.wait(20) == 130
    assert rest.count("step") < 100000


def test_the_first_passes_are_all_sent_and_later_ones_seldom(tmp_path):
    from gradtrace.cli.live.live_run import ALWAYS, Feed, messages  # noqa: PLC0415 - not on Windows

    feed = Feed(os.open(tmp_path / "sent", os.O_WRONLY | os.O_CREAT))
    began = time.monotonic()
    for index in range(1, 400):
        feed.passed(index, trace)
    os.close(feed._pipe)
    with (tmp_path / "sent").open("rb") as stream:
        sent = len(list(messages(stream)))
    assert ALWAYS <= sent <= ALWAYS + 2 + 2 * (time.monotonic() - began)


def test_a_feed_that_nobody_reads_lets_the_script_go_on():
    from gradtrace.cli.live.live_run import Feed  # noqa: PLC0415 - not on Windows

    read, write = os.pipe()
    feed = Feed(write)
    os.close(read)
    feed.send(trace())
    feed.send(trace())
