"""gradtrace, imported once and forked for each script: a command costs a tenth of a second rather than two.

    python -m tests.zygote NUMBER [plain] [MODULE...]

NUMBER is that of a socket, on which come lines of JSON (arguments, folder, streams); exit codes go back.
MODULES are imported first. With ``plain``, torch is imported and nothing of gradtrace, and a script is run as
``python -W error`` does.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


@dataclass
class Task:
    """A command of gradtrace: its arguments, folder, and the files that its streams are."""

    arguments: list[str]
    folder: str
    stdin: str
    stdout: str
    stderr: str

    def begin(self) -> None:
        """Make this process one that was started for the task."""
        os.chdir(self.folder)
        for number, (path, flags) in enumerate(
            [(self.stdin, os.O_RDONLY), (self.stdout, os.O_WRONLY), (self.stderr, os.O_WRONLY)]
        ):
            opened = os.open(path, flags)
            os.dup2(opened, number)
            os.close(opened)
        sys.argv = ["gradtrace", *self.arguments]


class Zygote:
    """The process, as whoever starts it sees it."""

    def __init__(self, *modules: str, plain: bool = False) -> None:
        self._more = ["plain"] * plain + [*modules]

    def __enter__(self) -> Self:
        """Start it."""
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-m", "tests.zygote", str(its.fileno()), *self._more]
            more = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
            self._process = subprocess.Popen(
                command, cwd=Path(__file__).parent.parent, pass_fds=[its.fileno()], env=os.environ | more,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._socket = ours
        self._socket.settimeout(120)
        self._lines = ours.makefile("rw")
        return self

    def run(self, task: Task) -> int:
        """Run a task and return its exit code, below zero for a signal."""
        print(json.dumps(asdict(task)), file=self._lines, flush=True)
        return int(self._lines.readline())

    def __exit__(self, *_: object) -> None:
        """End it, and what it has left."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lines.close()
        self._socket.close()


def serve(number: int) -> Task:
    """Fork for each task; return it in the child."""
    with socket.socket(fileno=number) as control, control.makefile("rw") as lines:
        while line := lines.readline():
            child = os.fork()
            if not child:
                return Task(**json.loads(line))
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=lines, flush=True)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from importlib import import_module

    if "plain" in sys.argv:
        import_module("torch._dynamo")  # which optimizers import
        serve(int(sys.argv[1])).begin()
        warnings.simplefilter("error")
        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()

    from gradtrace import cli

    for name in ("gradtrace.cli.record", "gradtrace.recording.script.session", *sys.argv[2:]):
        import_module(name)

    warnings.filterwarnings("error", module=r"gradtrace\b")
    serve(int(sys.argv[1])).begin()
    cli.main()
