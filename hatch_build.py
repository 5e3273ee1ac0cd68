"""Compile gradtrace/recording/native/*.c where there is a C compiler; without one, Python and torch's kernels serve.

``GRADTRACE_NATIVE=require`` makes it an error if that is not possible.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("gradtrace/recording/native")
SOURCES = [
    FOLDER / f"{name}.c" for name in ("module", "measure", "saved_tensors", "post_hook", "mode", "graph", "reduce")
]
WINDOWS = sys.platform == "win32"
LIBRARY = FOLDER / ("_native.pyd" if WINDOWS else "_native.abi3.so")


class CompileNative(BuildHookInterface):
    """Put the library beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile; a wheel that holds the library is for this platform, but for every Python from 3.11."""
        failed = compile_library(Path(self.root))
        if failed:
            if os.environ.get("GRADTRACE_NATIVE") == "require":  # as in tests and CI
                raise RuntimeError(f"GRADTRACE_NATIVE=require, but the C part does not compile:\n{failed}")
            self.app.display_warning(f"the C part does not compile, so gradtrace will record more slowly:\n{failed}")
            return
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


def compile_library(root: Path) -> str:
    """Compile into the source tree; return why that failed, in the compiler's words, or nothing where it did not."""
    compiler = (os.environ.get("CC") or ("gcc" if WINDOWS else "cc")).split()
    if shutil.which(compiler[0]) is None:
        return f"no C compiler: {compiler[0]!r} is not on the PATH"
    words = ""
    # Not every C library can choose between clones of a function at run time.
    for more in ([], ["-DNO_CLONES"]):
        command = [
            *compiler,
            "-O3",
            "-fPIC",
            "-shared",
            "-std=c11",
            "-D_GNU_SOURCE",
            f"-I{sysconfig.get_path('include')}",
            *more,
            "-o",
            str(root / LIBRARY),
            *(str(root / source) for source in SOURCES),
            *_libraries(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return ""
        words = done.stderr.strip()
    return words


def _libraries() -> list[str]:
    """Return what to link with; only on Windows Python's own names must be known by then."""
    if WINDOWS:
        return ["-static", f"-L{sys.base_prefix}/libs", "-lpython3", "-lwinpthread"]
    return ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-lm"]
