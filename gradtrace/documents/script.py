"""A script run for a document: in a child process that can be stopped, its trace cached on all that it depends on."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gradtrace import api, tracefile
from gradtrace.documents.imports import local_modules
from gradtrace.errors import DocumentError, GradtraceError, NothingRecordedError, ScriptError
from gradtrace.files import write_whole
from gradtrace.formats.base import Style

__all__ = ["Ran", "Script", "attribute_code", "draw", "imports", "read", "run", "seconds"]

TIMEOUT = 60.0
WIDTH = 84  # columns of a table in a document
NO_GRADIENT = (
    "{name!r} computes no gradient: it calls no backward() or autograd.grad() and leaves no tensor with a grad_fn"
)


class Script(Struct, frozen=True):
    """A script to run, with its arguments and the pass to keep.

    Args:
        name: what the picture calls it (``partials.py``).
        code: its text; empty for a saved trace.
        folder: where it runs, and finds the files and modules beside it.
        file: its path; empty for code that stands in the document.
        number: which backward pass to keep: from 1, or ``last``.
        timeout: the seconds that it may run.
    """

    name: str
    code: str
    folder: str
    file: str = ""
    number: str = "last"
    timeout: float = TIMEOUT


class Ran(NamedTuple):
    """A trace if there is one; what went wrong, in a line; what python printed of it; where, and which exception."""

    trace: api.Trace | None
    key: str = ""
    problem: str = ""
    details: str = ""
    line: int = 0
    error: str = ""


def read(path: str | Path, number: str = "last", timeout: float = TIMEOUT) -> Script:
    """Return the script, or saved trace, in a file; raises ScriptError if it can't be read."""
    file = Path(path).absolute()
    if tracefile.is_trace(file) and file.is_file():
        return Script(file.name, "", str(file.parent), str(file), number, timeout)
    try:
        code = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScriptError(f"no such file: {str(path)!r}", "name a Python script or a trace") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{str(path)!r} can't be read: {error}", "name a Python script or a trace") from None
    return Script(file.name, code, str(file.parent), str(file), number, timeout)


def seconds(text: str) -> float:
    """Return a limit of time as documents write it; raises DocumentError if it is none.

    >>> seconds("30")
    30.0
    """
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise DocumentError(f"timeout {text!r} must be a number of seconds above 0")
    return limit


def attribute_code(reference: str) -> str:
    """Return code that computes ``package.module:attribute``, calling it if it can be called."""
    module, _, attribute = reference.partition(":")
    name = re.sub(r"\W", "_", attribute.rpartition(".")[2]) or "value"
    call = f"{name} = {name}() if callable({name}) else {name}"
    return f"import {module}\n{name} = {module}.{attribute}\n{call}\n"


def run(script: Script, folder: Path | None = None) -> Ran:
    """Return what running the script recorded; ``folder`` keeps the traces of scripts that ended well."""
    if script.file and not script.code:
        return _loaded(script)
    key = _key(script)
    kept = folder / f"{key}.json.gz" if folder else None
    if kept and kept.is_file():
        return Ran(api.load(kept), key)
    ran = _run(script)._replace(key=key)
    if kept and ran.trace and not ran.problem:
        kept.parent.mkdir(parents=True, exist_ok=True)
        ran.trace.save(kept)
    return ran


def draw(ran: Ran, name: str, script: Script, folder: Path | None = None) -> bytes:
    """Return the script's pass in the format called ``name``, drawn once for the same trace."""
    assert ran.trace is not None  # noqa: S101 - who has a picture to draw has a trace
    kept = folder / f"{ran.key}.{name}" if folder and not ran.problem else None
    if kept and kept.is_file():
        return kept.read_bytes()
    drawn = ran.trace.drawn(name, number=_held(ran.trace, script.number), style=Style(width=WIDTH))
    data = drawn.encode() if isinstance(drawn, str) else drawn
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, data)
    return data


def _held(trace: api.Trace, number: str) -> str:
    """Return the pass to show: the one asked for, which a run has kept alone."""
    return "last" if len(trace.passes) == 1 else number


def _loaded(script: Script) -> Ran:
    try:
        trace = api.load(script.file)
        api.select(trace, script.number)
    except GradtraceError as error:
        return Ran(None, problem=str(error))
    content = hashlib.sha256(Path(script.file).read_bytes()).hexdigest()
    return Ran(trace, _digest((content, script.number, _versions())))


def _run(script: Script) -> Ran:
    with tempfile.TemporaryDirectory(prefix="gradtrace-") as scratch:
        target, file = Path(scratch, "trace.json"), script.file
        if not file:
            file = str(Path(scratch, script.name))
            Path(file).write_text(script.code, encoding="utf-8")
        own = [sys.executable, "-m", "gradtrace", "record", "-o", str(target), "--pass", script.number]
        code, words = _child([*own, file], script)
        words = words.replace(f"{scratch}{os.sep}", "")  # differs from run to run, and is gone after it
        trace = api.load(target) if target.is_file() else None
    return _judged(script, code, words, trace)


def _judged(script: Script, code: int | None, words: str, trace: api.Trace | None) -> Ran:
    """Tell what an exit code, the words on stderr and a trace mean together."""
    name = script.name
    details = "\n".join(line for line in words.splitlines() if not line.startswith("gradtrace: "))
    if code is None:
        return Ran(None, problem=f"{name!r} ran for more than {script.timeout:g} s and was stopped")
    if trace is None:
        reason = "; ".join(line.removeprefix("gradtrace: ") for line in words.splitlines()[-1:])
        return Ran(None, problem=f"{name!r} can't be run: {reason}", details=details)
    shown = trace if trace.passes else None
    if trace.error:
        place = trace.error.source
        line = place.line if place and Path(place.filename).name == name else 0
        said = (trace.error.message.splitlines() or [""])[0]
        problem = f"{name!r} ended in {trace.error.type}: {said}"
        return Ran(shown, "", problem.rstrip(": "), details, line, trace.error.type)
    made = re.search(r"[\d,]+ of ([\d,]+) backward pass", words)
    if not trace.passes and made and made[1] != "0":
        return Ran(None, problem=f"unknown pass {script.number!r} of {name!r}; choose from 1 to {made[1]}, or last")
    if code and code != NothingRecordedError.exit_code:
        return Ran(shown, problem=f"{name!r} ended with exit code {code}", details=details)
    return Ran(shown, problem="" if shown else NO_GRADIENT.format(name=name))


def _child(command: list[str], script: Script) -> tuple[int | None, str]:
    """Run the command; return its exit code, None if it took too long and was killed, and what it said."""
    paths = [script.folder, *filter(None, sys.path)]
    # A document comes out the same on every machine, with a screen or without.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "Agg", "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(  # noqa: S603 - the command is ours
        command,
        cwd=script.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        _, words = process.communicate(timeout=script.timeout)
    except BaseException as error:
        _kill(process)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None, ""
        raise
    return process.returncode, words


def _kill(process: subprocess.Popen[str]) -> None:
    """Stop the child and what it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _key(script: Script) -> str:
    imported = [file.read_bytes() for file in imports(script)]
    return _digest(
        (msgspec.structs.astuple(script), [hashlib.sha256(data).hexdigest() for data in imported], _versions())
    )


def imports(script: Script) -> list[Path]:
    """Return the files of the project that the script imports: those of installed packages don't count."""
    return local_modules(script.code, script.folder, tuple(sys.path))


def _digest(parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


@cache
def _versions() -> tuple[str, ...]:
    """Return all versions that a picture depends on; ours is what our own code says, released or not."""
    own = hashlib.sha256()
    for file in sorted(Path(api.__file__).parent.rglob("*.py")):
        own.update(file.read_bytes())
    return (platform.python_version(), _version("torch"), _version("pygraphviz"), own.hexdigest())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
