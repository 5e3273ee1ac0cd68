"""The options that commands share, where they may stand, and how the choice of a pass is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gradtrace.errors import GradtraceError, UnknownNameError
from gradtrace.formats.base import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Between",
    "Columns",
    "Depth",
    "Engine",
    "Focus",
    "FormatName",
    "Formulas",
    "Full",
    "Late",
    "Link",
    "Look",
    "MaxNodes",
    "Module",
    "Open",
    "Output",
    "PassNumber",
    "Sort",
    "Source",
    "ThemeName",
    "Timeout",
    "is_format",
    "is_output",
    "is_pass",
    "kept_passes",
    "take_late",
]

Source = Annotated[str, typer.Argument(metavar="SCRIPT|TRACE", help="A Python script, or a saved trace.")]
Module = Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module, as for python -m.")]
Output = Annotated[str | None, typer.Option("-o", "--output", metavar="FILE", help="Where to; - is stdout.")]
FormatName = Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT", help="See: gradtrace formats.")]
PassNumber = Annotated[str, typer.Option("--pass", metavar="N", help="Which backward pass: from 1, or last.")]
Engine = Annotated[str, typer.Option("--engine", help="pygraphviz (in its wheel), or dot (the system's).")]
Formulas = Annotated[bool, typer.Option("--formulas", help="Also write the formula of each node.")]
Look = Annotated[str, typer.Option("--style", help="gradtrace, or torchviz for its look.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that the layout may take.")]
MaxNodes = Annotated[int, typer.Option("--max-nodes", min=1, help="Boxes in a picture before it is folded.")]
Depth = Annotated[int | None, typer.Option("--depth", min=0, help="Fold each module call at this depth, from 1.")]
Open = Annotated[list[str] | None, typer.Option("--open", metavar="MODULE", help="Never fold this module.")]
Full = Annotated[bool, typer.Option("--full", help="Fold nothing.")]
Focus = Annotated[
    str,
    typer.Option("--focus", metavar="NAME", help="Only ways through a leaf, a line as train.py:42, an op or an id."),
]
Between = Annotated[
    tuple[str, str] | None, typer.Option("--between", metavar="A B", help="Only the ways between these two.")
]
Columns = Annotated[str, typer.Option("--columns", metavar="N", help="Newspaper columns: a number, or auto.")]
Link = Annotated[
    str, typer.Option("--link", metavar="URL", help="Where a box leads, as 'https://host/{file}#L{line}'.")
]
ThemeName = Annotated[
    str, typer.Option("--theme", metavar="FILE.toml", help="Colours and fonts: a TOML file, or light, or dark.")
]
Sort = Annotated[str, typer.Option("--sort", help="The table's order: order (of execution), or seconds.")]


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


class Late(NamedTuple):
    """An option that may also stand directly after SCRIPT: its spellings, and which values it can have.

    Arguments after SCRIPT are the script's own, and many scripts have a ``-o`` themselves. So ours counts
    there only before any argument that is not ours, and only with a value that it can have. A flag has no
    values (None).
    """

    key: str
    spellings: tuple[str, ...]
    accepts: Callable[[str], bool] | None = None


def take_late(arguments: Sequence[str], options: Sequence[Late]) -> tuple[dict[str, str], list[str]]:
    """Return our options that stand directly after SCRIPT, by key, and the script's own arguments.

    A ``--`` ends ours and is not passed on.
    """
    rest, found = list(arguments), {}
    while rest:
        name, joined, value = rest[0].partition("=")
        option = next((late for late in options if name in late.spellings), None)
        if option is None:
            break
        if option.accepts is None:
            found[option.key], used = "", 1
        else:
            value, used = (value, 1) if joined else ((rest[1:] or [""])[0], 2)
            if not option.accepts(value):
                break
            found[option.key] = value
        rest = rest[used:]
    return found, rest[1:] if rest[:1] == ["--"] else rest


def is_output(value: str) -> bool:
    """Tell whether this can be one of our output files: stdout, or a name that ends like one of our formats."""
    return value == "-" or FORMATS.for_suffix(value) is not None


def is_format(value: str) -> bool:
    """Tell whether there is a format of this name."""
    return value in FORMATS


def is_pass(value: str) -> bool:
    """Tell whether this chooses a pass."""
    try:
        kept_passes(value)
    except GradtraceError:
        return False
    return True
