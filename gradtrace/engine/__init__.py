"""Graphviz: DOT text in, the bytes of an SVG, PNG or PDF out, laid out in a child process that can be stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gradtrace.errors import EngineError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ENGINES", "Output", "check_engine", "draw", "layouts", "measured"]

Output = Literal["svg", "png", "pdf", "plain"]

ENGINES = ("pygraphviz", "dot")
FONTS = Path(__file__).parent / "fonts"
CHILD = Path(__file__).with_name("child.py")
CANNOT_IMPORT = 3  # the child's exit code where the wheel's libraries don't load
PNG_DPI = "192"  # twice the density of a screen
SEPARATOR = "\0"  # between graphs that one child lays out
EPOCH = b"20000101000000"

INSTALL = (
    "install pygraphviz, which has Graphviz inside (on a slim Linux it needs the packages libglib2.0-0 and libexpat1), "
    "or Graphviz itself, so that dot is on the PATH"
)


class _NotInstalledError(Exception):
    """Error of an engine that is not installed on this machine; another may be."""


def check_engine(engine: str) -> None:
    """Raise UnknownNameError unless there is an engine of this name."""
    if engine not in ENGINES:
        raise UnknownNameError.of("engine", engine, ENGINES)


def draw(dot: str, output: Output, engine: str = "pygraphviz", timeout: float = 60.0) -> bytes:
    """Return the picture of a graph in DOT, the same bytes for the same text on every machine.

    Raises EngineError where Graphviz is missing, refuses the text, or takes more than ``timeout`` seconds.
    """
    check_engine(engine)
    try:
        command = _wheel(output) if engine == "pygraphviz" else _system(output)
        return _timeless(_run(command, dot, timeout))
    except _NotInstalledError:
        if engine == "pygraphviz":
            return draw(dot, output, "dot", timeout)
        raise EngineError("there is no Graphviz to draw with", INSTALL) from None


def measured(dot: str, timeout: float = 60.0) -> tuple[float, float]:
    """Return the width and the height in points of a graph's layout, without its title.

    Raises EngineError as ``draw`` does.
    """
    try:
        wide, high = map(float, _run(_wheel("size"), dot, timeout).split())
    except _NotInstalledError:
        wide, high = (72 * float(word) for word in draw(dot, "plain", "dot", timeout).split()[2:4])
    return wide, high


def layouts(dots: Sequence[str], timeout: float = 60.0) -> list[dict[str, Any]]:
    """Return the layout of each graph by dot, in Graphviz's JSON.

    All are laid out in one child process, whose start takes longer than a small graph. Raises EngineError as ``draw``
    does, ``timeout`` being for all of them.
    """
    if not dots:
        return []
    try:
        drawn = _run(_wheel("json0"), SEPARATOR.join(dots), timeout).split(SEPARATOR.encode())
    except _NotInstalledError:
        try:
            drawn = [_run(_system("json0"), dot, timeout) for dot in dots]
        except _NotInstalledError:
            raise EngineError("there is no Graphviz to draw with", INSTALL) from None
    return [json.loads(each) for each in drawn]


def _wheel(output: Output | Literal["size", "json0"]) -> list[str]:
    package = find_spec("pygraphviz")
    if package is None or not package.submodule_search_locations:
        raise _NotInstalledError
    isolated = [sys.executable, "-I", "-S", "-B", str(CHILD)]
    return [*isolated, package.submodule_search_locations[0], output, PNG_DPI]


def _system(output: Output | Literal["json0"]) -> list[str]:
    import graphviz  # noqa: PLC0415 - 15 ms that the usual way doesn't need

    binary = str(graphviz.backend.DOT_BINARY)
    if shutil.which(binary) is None:
        raise _NotInstalledError
    return [binary, "-Kdot", f"-T{output}", *([f"-Gdpi={PNG_DPI}"] if output == "png" else [])]


def _run(command: list[str], dot: str, timeout: float) -> bytes:
    # subprocess.run kills the child at the timeout and on KeyboardInterrupt. Its stderr is captured, so that
    # warnings of fontconfig and GLib are not shown.
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command,
            input=dot.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
            env=_environment(),
            cwd=FONTS,
        )
    except subprocess.TimeoutExpired:
        slow = EngineError(
            f"the layout took more than {timeout:g} s and was stopped", "use -f text or -f json, or raise --timeout"
        )
        slow.slow = True
        raise slow from None
    except OSError as error:
        raise EngineError(f"{command[0]!r} can't be started: {error.strerror}", INSTALL) from error
    if done.returncode == CANNOT_IMPORT:
        raise _NotInstalledError
    if done.returncode or not done.stdout:
        raise EngineError(f"Graphviz failed: {_reason(done)}")
    return done.stdout


def _environment() -> dict[str, str]:
    # Only the bundled fonts: text has the same width on every machine, and is drawn where no font is installed.
    pinned = {"FONTCONFIG_FILE": str(FONTS / "fonts.conf"), "PANGOCAIRO_BACKEND": "fc", "TZ": "UTC", "LC_ALL": "C"}
    return {**os.environ, **pinned}


def _timeless(picture: bytes) -> bytes:
    """Return a PDF with its creation time blanked; its offsets stay valid, because the length is unchanged."""
    return re.sub(rb"(?<=/CreationDate \(D:)\d{14}", EPOCH, picture) if picture.startswith(b"%PDF") else picture


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode(errors="replace").splitlines()
    said = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    if said:
        return "; ".join(said)
    return f"ended by signal {-done.returncode}" if done.returncode < 0 else (lines or ["no output"])[-1]
