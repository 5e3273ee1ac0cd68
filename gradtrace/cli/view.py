"""``gradtrace view``: walk through the backward passes, in the browser."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from gradtrace.cli.options import Module, Source, Timeout
from gradtrace.cli.output import say
from gradtrace.cli.source import find
from gradtrace.errors import NothingRecordedError, ScriptError
from gradtrace.processes.merging import is_trace_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.viewer.run import Run

__all__ = ["view"]

PATIENCE = 3.0  # seconds that an interrupted script has to end
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address.")]
Port = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="The port; 0 for one that is free.")]


def view(
    context: typer.Context,
    source: Source,
    *,
    no_browser: NoBrowser = False,
    port: Port = 0,
    timeout: Timeout = 60.0,
    module: Module = False,
) -> None:
    """Run SCRIPT and follow its backward passes in the browser, or walk through those of saved traces.

    Arguments after SCRIPT are passed to it. The page is served on this machine alone, until Ctrl-C.
    """
    from gradtrace.viewer.run import Run  # noqa: PLC0415 - the other commands need not wait for it
    from gradtrace.viewer.server import Server  # noqa: PLC0415

    saved = not module and is_trace_source(source)
    if saved:
        run = Run(timeout=timeout)
        run.show([source, *context.args], say)
    else:
        run = Run(live=True, timeout=timeout)
        _check(source, context.args, module=module)
    server = Server(run, port)
    try:
        _announce(server.url, source, browser=not no_browser)
        code = _wait() if saved else _follow(run, source, context.args, module=module)
    finally:
        server.close()
    raise typer.Exit(code)


def _check(source: str, arguments: Sequence[str], *, module: bool) -> None:
    if sys.platform == "win32":
        hint = f"save it first: gradtrace record -o run.json.gz {source}"
        raise ScriptError("a script can't be followed on Windows", hint)
    find(source, list(arguments), module=module)


def _announce(url: str, source: str, *, browser: bool) -> None:
    say(f"{Path(source).name} is shown at {url} (Ctrl-C ends it)")
    graphical = sys.platform in {"win32", "darwin"} or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser and (graphical or os.environ.get("BROWSER")):
        with suppress(webbrowser.Error):
            webbrowser.open(url)


def _wait() -> int:
    """Wait for Ctrl-C."""
    with suppress(KeyboardInterrupt):
        Event().wait()
    return 0


def _follow(run: Run, source: str, arguments: Sequence[str], *, module: bool) -> int:
    """Run the script and show its passes as they arrive; return its exit code when both have ended."""
    from gradtrace.cli.live.live_run import started  # noqa: PLC0415 - not on Windows

    process, stream = started(source, arguments, module=module)
    before = signal.signal(signal.SIGTERM, _terminate)
    reader = Thread(target=_read, args=(run, stream), name="gradtrace feed", daemon=True)
    reader.start()
    try:
        code = _exit_code(process.wait())
        reader.join()
        _finish(run, code)
        _wait()
    except KeyboardInterrupt:
        code = _exit_code(_ended(process))
    finally:
        _ended(process, 0.0)
        signal.signal(signal.SIGTERM, before)
    return code


def _read(run: Run, stream: IO[bytes]) -> None:
    from gradtrace.cli.live.live_run import messages  # noqa: PLC0415

    with stream:
        for trace in messages(stream):
            run.grow(trace)


def _finish(run: Run, code: int) -> None:
    """Print how the script has ended; raises if there is nothing to show."""
    if not run.passes:
        if code:
            say("the script ended before any backward pass, so there is nothing to show")
            raise typer.Exit(code)
        raise NothingRecordedError("the script made no backward pass", "call backward() or autograd.grad()")
    run.end(f"ended with exit code {code}" if code else "ended")
    say(f"the script has {'ended' if not code else f'failed with exit code {code}'}; Ctrl-C ends the page, too")


def _ended(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> int:
    """Wait for an interrupted script; one that does not end is interrupted again, and then killed."""
    for send in (None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if send is not None and process.poll() is None:
            process.send_signal(send)
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            return process.wait(patience if send is not signal.SIGKILL else None)
    return process.wait()


def _exit_code(status: int) -> int:
    return status if status >= 0 else 128 - status


def _terminate(*_: Any) -> None:
    raise SystemExit(128 + signal.SIGTERM)
