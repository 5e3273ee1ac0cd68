"""``gradtrace checks``: list the checks."""

from __future__ import annotations

import typer

from gradtrace.checks.base import CHECKS
from gradtrace.cli.thresholds import read_thresholds

__all__ = ["checks"]


def checks() -> None:
    """List the checks, what each one finds, and its thresholds."""
    limits = read_thresholds(())
    for name in CHECKS:
        typer.echo(f"{name:18} {CHECKS[name].help}")
        used = ", ".join(f"{limit}={value:g}" for limit, value in limits.of(name).items())
        if used:
            typer.echo(f"{'':18} --threshold {used}")
