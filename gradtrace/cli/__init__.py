"""The commands, one file each. What can fail cheaply fails before the script starts; torch is imported last."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradtrace.cli.examples import SUMMARIES, epilog
from gradtrace.cli.stdout import flush, stdout_errors
from gradtrace.errors import GradtraceError
from gradtrace.registry import report_faults_to

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COMMANDS", "app_with", "main"]

VERSION = "Show the version and exit."
HELP = "See, teach and debug the backward pass of any PyTorch script."

_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
# Arguments of the script begin at the first one that is not an option of gradtrace.
_SCRIPT = {**_HELP, "allow_extra_args": True, "allow_interspersed_args": False}
COMMANDS: dict[str, dict[str, Any]] = {
    "render": _SCRIPT,
    "view": _SCRIPT,
    "record": _SCRIPT,
    "explain": _SCRIPT,
    "check": _SCRIPT,
    "history": _HELP,
    "diff": _SCRIPT,
    "embed": _HELP,
    "formats": _HELP,
    "checks": _HELP,
}


def app_with(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """Return the application with these commands, each of which is imported."""
    app = typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings=_HELP
    )
    app.callback(help=HELP, epilog=epilog(""))(_options)
    for name in names:
        command = getattr(import_module(f"gradtrace.cli.{name}"), name)
        app.command(context_settings=COMMANDS[name], short_help=SUMMARIES.get(name), epilog=epilog(name))(command)
    return app


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        from gradtrace import __version__  # noqa: PLC0415

        typer.echo(f"gradtrace {__version__}")
        raise typer.Exit


def _options(
    *, _version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help=VERSION)] = False
) -> None:
    """Hold the options of ``gradtrace`` itself."""


def _is_source(name: str) -> bool:
    """Tell whether the first argument is a script or a trace, for which ``render`` need not be written."""
    return name not in COMMANDS and name.endswith((".py", ".json", ".json.gz"))


def _say(fault: str) -> None:
    from gradtrace.cli.output import say  # noqa: PLC0415 - the formats, which --help need not import

    say(fault)


def main() -> None:
    """Run the command that ``sys.argv`` names; the only place that turns an error into an exit code."""
    if sys.argv[1:] and _is_source(sys.argv[1]):
        sys.argv.insert(1, "render")
    named = [name for name in sys.argv[1:2] if name in COMMANDS]
    report_faults_to(_say)
    try:
        _run(named or COMMANDS)
    except GradtraceError as error:
        from gradtrace.cli.output import print_error  # noqa: PLC0415 - what a command has imported

        print_error(error)
        sys.exit(error.exit_code)


def _run(names: Iterable[str]) -> None:
    """Run the command; only it is imported. Called by itself, the app would change sys.excepthook."""
    try:
        with stdout_errors():
            typer.main.get_command(app_with(names))(prog_name="gradtrace")
    finally:
        output = sys.modules.get("gradtrace.cli.output")
        if output is None or not output.script_ran():
            flush()
