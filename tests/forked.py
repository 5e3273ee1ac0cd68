"""Commands of gradtrace as a user gives them, each in a fork of one process that has imported all of it."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import tempfile
from pathlib import Path

from tests.scripts import default_signals
from tests.zygote import Task, Zygote


@functools.cache
def _zygote() -> Zygote:
    with default_signals():
        started = Zygote("sympy", "numpy", "gradtrace.cli.explain", "gradtrace.explain.derivation").__enter__()
    atexit.register(started.__exit__)
    return started


def gradtrace(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with empty input."""
    command = [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as name:
        streams = Path(name, "stdout"), Path(name, "stderr")
        for stream in streams:
            stream.touch()
        code = _zygote().run(Task(command, str(folder), os.devnull, *map(str, streams)))
        return subprocess.CompletedProcess(command, code, *(stream.read_text(encoding="utf-8") for stream in streams))
