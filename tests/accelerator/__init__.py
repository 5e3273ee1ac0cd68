"""A pretend accelerator for tests, whose waits, launches and allocations are counted: see pretend.cpp.

``load()`` gives torch a device type ``pretend`` with two devices. It has to be called before the first backward of
the process, as the engine then starts one thread for each device that there is. What it can't show: speed, and races
between kernels on two streams, for a kernel runs at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import types
from pathlib import Path
from typing import NamedTuple

from tests.accelerator.kernels import HostKernel

__all__ = ["Counts", "compiler", "counting", "load"]

SOURCE = Path(__file__).with_name("pretend.cpp")
BUILD = Path(__file__).parent.parent.parent / "build"


def compiler() -> str | None:
    """Return the C++ compiler that torch would use, None where there is none."""
    return shutil.which(os.environ.get("CXX", "c++"))


class Counts(NamedTuple):
    """What the devices were asked for since ``counting`` began; ``bytes`` are those allocated now."""

    waits: int
    launches: int
    allocations: int
    bytes: int


@functools.cache
def load() -> None:
    """Give torch the device, which is compiled once for a checkout and a version of torch."""
    import torch  # noqa: PLC0415 - 1.5 s, and most tests need none

    library = _built(torch.__version__)
    torch.ops.load_library(library)
    torch.ops.pretend.start()
    torch.utils.rename_privateuse1_backend("pretend")
    torch._register_device_module("pretend", _module(torch, library))


@contextlib.contextmanager
def counting():
    """Count what the devices are asked for in this block; the list that is given has the Counts after it."""
    import torch  # noqa: PLC0415

    found: list[Counts] = []
    before = torch.ops.pretend.counts()
    yield found
    now = torch.ops.pretend.counts()
    found.append(Counts(*[after - first for after, first in zip(now[:3], before, strict=False)], now[3]))


def _built(version: str) -> Path:
    """Return the library, compiled if need be by one process while the others wait."""
    stamp = hashlib.sha256(f"{version} {compiler()}".encode() + SOURCE.read_bytes()).hexdigest()[:16]
    folder = BUILD / f"pretend-{stamp}"
    folder.mkdir(parents=True, exist_ok=True)
    library, unfinished = folder / "pretend.so", folder / "unfinished.so"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            subprocess.run([*_command(), str(SOURCE), "-ltorch_cpu", "-lc10", "-o", str(unfinished)], check=True)
            unfinished.rename(library)
    return library


def _command() -> list[str]:
    import torch  # noqa: PLC0415

    home = Path(torch.__file__).parent
    included = [home / "include", home / "include" / "torch" / "csrc" / "api" / "include"]
    flags = [
        "-std=c++20",
        "-O1",
        "-w",
        "-fPIC",
        "-shared",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]
    return [compiler(), *flags, *(f"-I{folder}" for folder in included), f"-L{home / 'lib'}"]


def _module(torch, library: Path) -> types.ModuleType:
    module = types.ModuleType("torch.pretend")
    ops, loaded = torch.ops.pretend, ctypes.CDLL(str(library))
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module.device_count = lambda: 2
    module.current_device = lambda: torch.accelerator.current_device_index()
    module._is_in_bad_fork = lambda: False
    module.get_rng_state = lambda *_: ops.rng_state()
    module.set_rng_state = lambda state, *_: ops.set_rng_state(state)
    module.manual_seed_all = lambda value: ops.seed(value % 2**63)
    module.manual_seed = module.manual_seed_all
    module.is_current_stream_capturing = lambda: bool(loaded.is_capturing())
    module._compile_kernel = lambda source, name: HostKernel(source, name, library.parent, compiler())
    module.get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    return module
