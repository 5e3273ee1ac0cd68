"""Options that stand after SCRIPT: which of them are gradtrace's, and which are passed to the script."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.cli.output import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import typer

__all__ = ["Late", "take_late"]


class Late(NamedTuple):
    """An option that may also stand directly after SCRIPT: its spellings, and which values it can have.

    Many scripts have an option ``-o`` or ``--pass`` of their own. So such an option is gradtrace's only if
    nothing else stands between it and SCRIPT, and if its value is valid. A flag has no values (None).
    ``choices`` are what a mistyped value is compared with.
    """

    key: str
    spellings: tuple[str, ...]
    accepts: Callable[[str], bool] | None = None
    choices: Iterable[str] = ()


def take_late(context: typer.Context, options: Sequence[Late]) -> tuple[dict[str, str], list[str]]:
    """Return gradtrace's options that stand directly after SCRIPT, by key, and the script's own arguments.

    ``--`` ends gradtrace's options and is not passed on. An option that is passed to the script although it is
    spelled like one of gradtrace's is reported on stderr.
    """
    rest, taken = list(context.args), {}
    while rest:
        option, value, used = _read(rest, options)
        if option is None or (option.accepts is not None and not option.accepts(value)):
            break
        taken[option.key] = value
        rest = rest[used:]
    if rest[:1] == ["--"]:
        return taken, rest[1:]
    _report(rest, options, context)
    return taken, rest


def _read(rest: Sequence[str], options: Sequence[Late]) -> tuple[Late | None, str, int]:
    """Return the option in the first argument, its value, and the number of arguments of both."""
    name, joined, value = rest[0].partition("=")
    option = next((late for late in options if name in late.spellings), None)
    if option is None or option.accepts is None:
        return option, "", 1
    return (option, value, 1) if joined else (option, (rest[1:2] or [""])[0], 2)


def _report(rest: Sequence[str], options: Sequence[Late], context: typer.Context) -> None:
    """Say that an option was passed to the script, where gradtrace has one of the same name."""
    ours = {name for parameter in context.command.params for name in parameter.opts if name.startswith("-")}
    at = next((at for at, text in enumerate(rest) if text.partition("=")[0] in ours), None)
    if at is None:
        return
    option, value, _ = _read(rest[at:], options)
    why = "gradtrace's own options stand before the script"
    if at == 0 and option is not None:
        close = get_close_matches(value, list(option.choices), n=1)
        why = f"gradtrace has no {option.key} {value!r}{f', perhaps you meant {close[0]!r}' if close else ''}"
    say(f"{rest[at]} was passed to the script: {why} (put -- after the script to hide this note)")
