"""``gradtrace checks``: list the checks."""

from __future__ import annotations

import typer
from msgspec.structs import asdict

from gradtrace.checks.base import CHECKS, traits
from gradtrace.cli.thresholds import read_thresholds

__all__ = ["checks"]


def checks() -> None:
    """List the checks, what each one finds, and its thresholds."""
    limits = asdict(read_thresholds(()))
    for name in CHECKS:
        typer.echo(f"{name:18} {CHECKS[name].help}")
        used = ", ".join(f"{limit}={limits[limit]:g}" for limit in traits(name).uses)
        if used:
            typer.echo(f"{'':18} --threshold {used}")
