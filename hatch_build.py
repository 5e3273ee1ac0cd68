"""Compile gradtrace/recording/native/*.c where there is a C compiler; without one, Python and torch's kernels serve."""

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
LIBRARY = FOLDER / "_native.abi3.so"


class CompileNative(BuildHookInterface):
    """Put the library beside its source, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile; a wheel that holds the library is for this platform, but for every Python from 3.11."""
        if not compile_library(Path(self.root)):
            self.app.display_warning("no C compiler, or no headers of Python: gradtrace will record more slowly")
            return
        build_data["artifacts"].append(str(LIBRARY))
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"


def compile_library(root: Path) -> bool:
    """Compile into the source tree; tell whether that was possible."""
    compiler = (os.environ.get("CC") or "cc").split()
    if sys.platform == "win32" or shutil.which(compiler[0]) is None:
        return False
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
            *(["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []),
            *more,
            "-o",
            str(root / LIBRARY),
            *(str(root / source) for source in SOURCES),
            "-lm",
        ]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if done.returncode == 0:
            return True
    return False
