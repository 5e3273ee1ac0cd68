"""Options shared by several commands, and the parser of pass numbers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gradtrace.errors import GradtraceError, UnknownNameError
from gradtrace.formats.base import FORMATS, SORTS

__all__ = [
    "Between",
    "Columns",
    "Depth",
    "Engine",
    "Focus",
    "FormatName",
    "Formulas",
    "Full",
    "Link",
    "Look",
    "MaxNodes",
    "Module",
    "Open",
    "Output",
    "PassNumber",
    "Radius",
    "Rank",
    "RecordedPasses",
    "Script",
    "Slopes",
    "Sort",
    "Source",
    "ThemeName",
    "Through",
    "Timeout",
    "is_format",
    "is_output",
    "is_pass",
    "is_recorded_pass",
    "kept_passes",
    "recorded_passes",
]

Source = Annotated[
    str,
    typer.Argument(
        metavar="SCRIPT|TRACE...", help="A Python script; or traces saved by gradtrace record: files, or a folder."
    ),
]
Script = Annotated[str, typer.Argument(metavar="SCRIPT", help="A Python script.")]
Module = Annotated[bool, typer.Option("-m", help="Run a module, like python -m: SCRIPT is its name.")]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The file to write; its ending selects the format. - is stdout."
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option(
        "-f",
        "--format",
        metavar="FORMAT",
        help="The output format; gradtrace formats lists them.",
        autocompletion=lambda: list(FORMATS),
    ),
]
PassNumber = Annotated[
    str,
    typer.Option(
        "--pass",
        metavar="N",
        help="The backward pass: a number from 1, several as in 10,100, or all, or last.",
        autocompletion=lambda: ["last", "all"],
    ),
]
RecordedPasses = Annotated[
    str,
    typer.Option(
        "--pass",
        metavar="N",
        help="The backward pass: a number from 1, several as in 10,100 or every:100, all, last, or none: leaves only.",
        autocompletion=lambda: ["last", "all", "none"],
    ),
]
Rank = Annotated[
    str | None,
    typer.Option(
        "--rank",
        metavar="N",
        help="Of traces of several processes, draw the one of this rank; or all, joined where a pipeline is cut.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="Which Graphviz draws: pygraphviz (comes with gradtrace) or dot (installed on the system).",
        autocompletion=lambda: ["pygraphviz", "dot"],
    ),
]
Formulas = Annotated[bool, typer.Option("--formulas", help="Also write each node's derivative formula.")]
Look = Annotated[
    str,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="How the picture looks: gradtrace or torchviz.",
        autocompletion=lambda: ["gradtrace", "torchviz"],
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Time limit for the layout.")]
MaxNodes = Annotated[
    int | None,
    typer.Option("--max-nodes", metavar="N", min=1, help="Fold to this many boxes, instead of as many as can be read."),
]
Depth = Annotated[
    int | None, typer.Option("--depth", metavar="N", min=0, help="One box for each module call at this depth.")
]
Open = Annotated[
    list[str] | None, typer.Option("--open", metavar="MODULE", help="Do not fold this module. Can be repeated.")
]
Full = Annotated[bool, typer.Option("--full", help="Fold nothing.")]
Focus = Annotated[
    str,
    typer.Option(
        "--focus",
        metavar="NAME",
        help="Show a leaf, an op, a module, a line (train.py:42) or an id, and what is around it.",
    ),
]
Radius = Annotated[
    int | None,
    typer.Option("--radius", metavar="N", min=0, help="Show what is up to N steps from --focus; by default 3."),
]
Slopes = Annotated[
    bool | None,
    typer.Option("--slopes/--no-slopes", help="Write the local derivative on edges of scalars: 48 = 1 · 3·4²."),
]
Through = Annotated[
    str,
    typer.Option("--through", metavar="NAME", help="Show only paths through a leaf, an op, a module or a line."),
]
Between = Annotated[
    tuple[str, str] | None, typer.Option("--between", metavar="A B", help="Show only the paths from A to B.")
]
Columns = Annotated[
    str, typer.Option("--columns", metavar="N", help="Break a tall picture into columns: a number, or auto.")
]
Link = Annotated[
    str, typer.Option("--link", metavar="URL", help="Link each box to its line, as in 'https://host/{file}#L{line}'.")
]
ThemeName = Annotated[
    str,
    typer.Option(
        "--theme",
        metavar="FILE.toml",
        help="Colours and fonts: a TOML file, or light, or dark.",
        autocompletion=lambda: ["light", "dark"],
    ),
]
Sort = Annotated[
    str,
    typer.Option(
        "--sort",
        metavar="ORDER",
        help="Sort the table by order (of execution), norm (of the gradient) or seconds.",
        autocompletion=lambda: list(SORTS),
    ),
]


def kept_passes(number: str) -> frozenset[int] | None:
    """Return which passes to keep: an empty set for ``last``, None for ``all``; raises UnknownNameError.

    >>> kept_passes("last"), sorted(kept_passes("10,100"))
    (frozenset(), [10, 100])
    """
    if number == "last":
        return frozenset()
    if number == "all":
        return None
    numbers = number.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in numbers):
        raise UnknownNameError.of("pass", number, ("a number from 1", "several as in 10,100", "last", "all"))
    return frozenset(map(int, numbers))


def recorded_passes(number: str) -> frozenset[int] | range | None:
    """Return which passes to record in full; of the others, the norm of each leaf's gradient is recorded.

    >>> recorded_passes("none"), recorded_passes("every:100")[:2]
    (frozenset({0}), range(100, 300, 100))
    """
    if number == "none":
        return frozenset({0})
    step = number.removeprefix("every:")
    if step != number and step.isdecimal() and int(step) > 0:
        return range(int(step), sys.maxsize, int(step))
    return kept_passes(number)


def is_output(value: str) -> bool:
    """Tell whether a name is an output file: stdout, or one with the ending of a format."""
    return value == "-" or FORMATS.for_suffix(value) is not None


def is_format(value: str) -> bool:
    """Tell whether there is a format of this name."""
    return value in FORMATS


def is_recorded_pass(value: str) -> bool:
    """Tell whether a value chooses passes to record."""
    try:
        recorded_passes(value)
    except GradtraceError:
        return False
    return True


def is_pass(value: str) -> bool:
    """Tell whether a value chooses a pass."""
    try:
        kept_passes(value)
    except GradtraceError:
        return False
    return True
