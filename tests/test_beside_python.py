"""Awkward scripts beside a real python: the same stdout, stderr, exit code and files. See tests/awkward.py."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.awkward import KINDS, SUITE
from tests.awkward_torch import TORCH
from tests.scripts import OURS, default_signals
from tests.zygote import Task, Zygote

# Addresses, and how often an object is held, are not the same in two runs of python either.
CHANCE = re.compile(r"0x[0-9a-f]+|(?<=object refcount : )\d+")
NOTHING = 3  # that there was nothing to record, which a script without torch does not
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


@dataclass
class Done:
    """What a run left."""

    stdout: bytes
    stderr: str
    code: int
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def zygote():
    with default_signals(), Zygote() as started:
        yield started


def fresh(folder, kind):
    """A folder with the kind's files, and empty streams beside it."""
    for name, content in kind.contents().items():
        path = folder / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (folder / "stdin").write_text(kind.stdin)
    for name in ("stdout", "stderr"):
        (folder / name).write_bytes(b"")
    return folder / "work"


def done(folder, code):
    """What was left of a run in a folder, and nothing of it behind."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "work").rglob("*")) if p.is_file()}
    stderr = (folder / "stderr").read_bytes().decode(errors="replace")
    return Done((folder / "stdout").read_bytes(), stderr, code, files)


def run(command, folder, kind):
    """Run a command in a fresh process."""
    work = fresh(folder, kind)
    more = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **kind.env}
    with default_signals(), ExitStack() as files:
        streams = [files.enter_context((folder / name).open(mode)) for name, mode in STREAMS]
        stdin, stdout, stderr = streams
        ended = subprocess.run(
            command,
            cwd=work,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | more,
            check=False,
            timeout=120,
        )
    return done(folder, ended.returncode)


STREAMS = (("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))
RECORD = ["record", "--pass", "last", "-o", "out.json"]


def forked(zygote, folder, kind, script):
    work = fresh(folder, kind)
    task = Task([*RECORD, *script], str(work), *(str(folder / name) for name, _ in STREAMS))
    return done(folder, zygote.run(task))


def compare(name, plain, traced):
    """Assert that both did the same, but for the trace, the words that are ours, and the exit code for nothing."""
    traced.files.pop("work/out.json", None)
    said = "".join(OURS.findall(traced.stderr))
    assert traced.stdout == plain.stdout
    assert CHANCE.sub("?", OURS.sub("", traced.stderr)) == CHANCE.sub("?", plain.stderr)
    if not (name not in TORCH and plain.code == 0 and traced.code == NOTHING):
        codes = {-signal.SIGINT: 130}  # by which a shell tells the same
        assert codes.get(traced.code, traced.code) == codes.get(plain.code, plain.code), said
    assert traced.files == plain.files


@pytest.mark.parametrize("name", SUITE)
def test_a_script_does_what_it_does_under_python(name, zygote, tmp_path, counted):
    kind = KINDS[name]
    script = [*(kind.called or (kind.name,)), *kind.arguments]
    # In one folder, whose name may be in what they print.
    plain = run([sys.executable, *script], tmp_path, kind)
    clear(tmp_path)
    if kind.env:
        traced = run([sys.executable, "-m", "gradtrace", *RECORD, *script], tmp_path, kind)
    else:
        traced = forked(zygote, tmp_path, kind, script)
    counted(scripts=1)
    compare(name, plain, traced)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_script_does_what_it_does_under_python_in_a_process_of_its_own(name, tmp_path, counted):
    kind = KINDS[name]
    script = [*(kind.called or (kind.name,)), *kind.arguments]
    plain = run([sys.executable, *script], tmp_path, kind)
    clear(tmp_path)
    traced = run([sys.executable, "-m", "gradtrace", *RECORD, *script], tmp_path, kind)
    counted(scripts=1)
    compare(name, plain, traced)


def test_an_interrupt_that_is_ignored_here_is_not_ignored_in_what_the_tests_start(tmp_path):
    kind = KINDS["an interrupt to itself"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup leaves it
    try:
        assert run([sys.executable, kind.name], tmp_path, kind).code == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def clear(folder):
    """Remove what a run has left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
