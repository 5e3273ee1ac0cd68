"""torchrun on loopback, bounded in time: gloo ranks that run a script under gradtrace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass

from tests.scripts import ROOT

TIMEOUT = 120
QUIET = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, "GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@dataclass
class Launched:
    """What a command with many processes left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """What gradtrace said, whichever rank did."""
        return [line for line in self.err.splitlines() if line.startswith(("gradtrace:", "[rank "))]


def run(folder, *command, own_path="") -> Launched:
    """Run python with these arguments in ``folder``, and a folder before others on its path."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (own_path, ROOT)))}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, **QUIET, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its ranks, which have sessions of their own
        out, err = process.communicate(timeout=TIMEOUT)
    return Launched(process.returncode, out, err)


def torchrun(folder, ranks, *command, **options) -> Launched:
    """Run torchrun with this many ranks on this machine; ``command`` begins with a script, or with ``-m``."""
    more = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return run(
        folder, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", *more, *command
    )  # fmt: skip


def write(folder, name, text):
    """Write a script."""
    (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
