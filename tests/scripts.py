"""Running a script by python and by gradtrace, in fresh processes, and comparing what it did."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = str(Path(__file__).parent.parent)
PEAK = str(Path(__file__).parent / "peak")
OURS = re.compile(r"^gradtrace: .*\n", re.MULTILINE)


@dataclass
class Done:
    """What a run left: its output, exit code and peak memory (KiB), what gradtrace said, the files that it made."""

    stdout: str
    stderr: str
    code: int
    said: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    peak: int = 0


def write(folder: Path, **files: str) -> None:
    """Write these Python files; ``a_in_b`` is ``b/a.py``."""
    for name, text in files.items():
        stem, _, parent = name.partition("_in_")
        path = folder / parent / f"{stem}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


@contextmanager
def default_signals() -> Iterator[None]:
    """Start processes with python's own dispositions: nohup, make and a shell's background let them ignore Ctrl-C."""
    names = ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(folder: Path, *command: str, stdin: str = "") -> Done:
    """Run python with these arguments in ``folder``; files that it makes are returned and removed."""
    before = {path for path in folder.rglob("*") if path.is_file()}
    # One hash seed, so that sets are printed in one order; one thread, so that sums are rounded in one way.
    more = {"PYTHONPATH": f"{ROOT}{os.pathsep}{PEAK}", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    with default_signals(), tempfile.NamedTemporaryFile("r") as peak:
        more |= {"PYTHONDONTWRITEBYTECODE": "1", "GRADTRACE_PEAK": peak.name}
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, input=stdin, env=os.environ | more, capture_output=True,
            encoding="utf-8", check=False,
        )  # fmt: skip
        most = int(peak.read() or 0)
    made = {path for path in folder.rglob("*") if path.is_file()} - before
    files = {str(path.relative_to(folder)): path.read_bytes() for path in made}
    for path in made:
        path.unlink()
    said = "".join(OURS.findall(done.stderr))
    code = 128 - done.returncode if done.returncode == -signal.SIGINT else done.returncode
    return Done(done.stdout, OURS.sub("", done.stderr), code, said, files, most)


def both(
    folder: Path, *script: str, stdin: str = "", options: tuple[str, ...] = ("--pass", "last")
) -> tuple[Done, Done]:
    """Run a script with its arguments by python and by ``gradtrace record``, whose trace is ``out.json``."""
    plain = run(folder, *script, stdin=stdin)
    traced = run(folder, "-m", "gradtrace", "record", *options, "-o", "out.json", *script, stdin=stdin)
    return plain, traced


def assert_same(plain: Done, traced: Done) -> bytes:
    """Assert that both runs did the same, and return the trace."""
    trace = traced.files.pop("out.json", b"")
    assert traced.stdout == plain.stdout
    assert traced.stderr == plain.stderr
    assert traced.code == plain.code
    assert traced.files == plain.files
    return trace
