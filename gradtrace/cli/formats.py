"""``gradtrace formats``: list the output formats."""

from __future__ import annotations

import typer

from gradtrace.formats.base import FORMATS

__all__ = ["formats"]


def formats() -> None:
    """List the output formats, their file endings, and what each is for."""
    plugins = [FORMATS[name] for name in FORMATS]
    for plugin in plugins:
        typer.echo(f"{plugin.name:10} {' '.join(plugin.suffixes):16} {plugin.help}")
