"""The options that commands share, and how the choice of a pass is read."""

from __future__ import annotations

from typing import Annotated

import typer

from gradtrace.errors import UnknownNameError

__all__ = ["Engine", "FormatName", "Look", "Module", "Output", "PassNumber", "Source", "Timeout", "kept_passes"]

Source = Annotated[str, typer.Argument(metavar="SCRIPT|TRACE", help="A Python script, or a saved trace.")]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module, as for python -m.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to; - is stdout.")]
FormatName = Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT", help="See: gradtrace formats.")]
PassNumber = Annotated[str, typer.Option("--pass", metavar="N", help="Which backward pass: from 1, or last.")]
Engine = Annotated[str, typer.Option("--engine", help="pygraphviz (in its wheel), or dot (the system's).")]
Look = Annotated[str, typer.Option("--style", help="gradtrace, or torchviz for its look.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that the layout may take.")]


def kept_passes(number: str) -> frozenset[int] | None:
    """Return which passes to keep: an empty set for ``last``, None for ``all``; raises UnknownNameError."""
    if number == "last":
        return frozenset()
    if number == "all":
        return None
    numbers = number.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in numbers):
        raise UnknownNameError.of("pass", number, ("a number from 1", "several as in 10,100", "last", "all"))
    return frozenset(map(int, numbers))
