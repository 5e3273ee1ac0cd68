"""The commands, one file each. What can fail cheaply fails before the script starts; torch comes last."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer

from gradtrace.errors import GradtraceError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COMMANDS", "app_with", "main"]

HELP = "See, teach and debug the backward pass of any PyTorch script."

# The first argument that is not an option of ours begins the script's own, options included.
_SCRIPT = {"allow_extra_args": True, "allow_interspersed_args": False}
COMMANDS: dict[str, dict[str, Any]] = {
    "render": _SCRIPT,
    "record": _SCRIPT,
    "explain": _SCRIPT,
    "check": _SCRIPT,
    "diff": _SCRIPT,
    "embed": {},
    "formats": {},
    "checks": {},
}


def app_with(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """Return the application with these commands, each of which is imported."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_options)
    for name in names:
        command = getattr(import_module(f"gradtrace.cli.{name}"), name)
        app.command(context_settings=COMMANDS[name])(command)
    return app


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        from gradtrace import __version__  # noqa: PLC0415

        typer.echo(f"gradtrace {__version__}")
        raise typer.Exit


def _options(
    _version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Tell the version."),  # noqa: FBT001, FBT003
) -> None:
    """See, teach and debug the backward pass of any PyTorch script."""


def main() -> None:
    """Run the command that ``sys.argv`` names; the only place that turns an error into an exit code."""
    named = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        app_with(named or COMMANDS)()  # the others need not be imported
    except GradtraceError as error:
        print(f"gradtrace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
