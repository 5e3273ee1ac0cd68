"""The commands, one file each. What can fail cheaply fails before the script starts; torch comes last."""

from __future__ import annotations

import sys

import typer

from gradtrace.cli.check import check
from gradtrace.cli.checks import checks
from gradtrace.cli.diff import diff
from gradtrace.cli.embed import embed
from gradtrace.cli.explain import explain
from gradtrace.cli.formats import formats
from gradtrace.cli.record import record
from gradtrace.cli.render import render
from gradtrace.errors import GradtraceError

__all__ = ["app", "main"]

HELP = "See, teach and debug the backward pass of any PyTorch script."

app = typer.Typer(
    help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
# The first argument that is not an option of ours begins the script's own, options included.
_SCRIPT = {"allow_extra_args": True, "allow_interspersed_args": False}
app.command(context_settings=_SCRIPT)(render)
app.command(context_settings=_SCRIPT)(record)
app.command(context_settings=_SCRIPT)(explain)
app.command(context_settings=_SCRIPT)(check)
app.command(context_settings=_SCRIPT)(diff)
app.command()(embed)
app.command()(formats)
app.command()(checks)


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        from gradtrace import __version__  # noqa: PLC0415

        typer.echo(f"gradtrace {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Tell the version."),  # noqa: FBT001, FBT003
) -> None:
    """See, teach and debug the backward pass of any PyTorch script."""


def main() -> None:
    """Run the command that ``sys.argv`` names; the only place that turns an error into an exit code."""
    try:
        # It takes no argument, and typer imports pydantic for the first one it reads, which takes as long as all else.
        formats() if sys.argv[1:] == ["formats"] else app()
    except GradtraceError as error:
        print(f"gradtrace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
