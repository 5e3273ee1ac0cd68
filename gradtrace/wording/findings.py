"""Findings as text for the terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import number
from gradtrace.wording.quoting import one_line
from gradtrace.wording.tables import paint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.model import Finding

__all__ = ["as_text", "ranks_shown", "sentence", "summary"]

MARKS = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("·", "cyan")}


def as_text(findings: Sequence[Finding], width: int = 80, *, color: bool = False) -> str:
    """Return the findings as text: mark, check and place, message, hint."""
    return "".join(f"{line}\n" for finding in findings for line in _lines(finding, width, color=color))


def _lines(finding: Finding, width: int, *, color: bool) -> Iterator[str]:
    mark, look = MARKS[finding.severity]
    at = ", ".join(part for part in (position(finding.source), _passes(finding)) if part)
    yield paint(f"{mark} {finding.check}{f'  {one_line(at)}' if at else ''}", look, color=color)
    yield from _wrapped(sentence(finding.message), "    ", width)
    if finding.hint:
        yield from _wrapped(f"→ {finding.hint}", "    ", width)
    if finding.thresholds:
        limits = ", ".join(f"{name}={number(value)}" for name, value in finding.thresholds.items())
        yield from (paint(line, "dim", color=color) for line in _wrapped(f"thresholds: {limits}", "    ", width))


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    wrapper = textwrap.TextWrapper(width, initial_indent=indent, subsequent_indent=indent)
    wrapper.break_on_hyphens = wrapper.break_long_words = False
    return wrapper.wrap(one_line(text))


def _passes(finding: Finding) -> str:
    more = f" and {finding.count - 1:,} more" if finding.count > 1 else ""
    found = [f"pass {finding.pass_index:,}{more}"] if finding.pass_index else []
    return ", ".join([*found, *([f"rank {ranks_shown(finding.ranks)}"] if finding.ranks else [])])


def ranks_shown(ranks: Sequence[int]) -> str:
    """Return ranks as a person writes them, the first in front.

    >>> ranks_shown((3, 0, 1, 2, 7))
    '3, also on 0 to 2, 7'
    """
    runs: list[list[int]] = []
    for rank in sorted(ranks[1:]):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    others = ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)  # noqa: PLR2004
    return f"{ranks[0]}, also on {others}" if others else f"{ranks[0]}"


def summary(findings: Sequence[Finding], passes: int) -> str:
    """Return the line with the numbers of findings and passes.

    >>> from gradtrace.model import Finding
    >>> summary([Finding("vanishing", "warning", "it vanished")], 2), summary([], 1)
    ('1 warning in 2 backward passes', 'no findings in 1 backward pass')
    """
    counts = [(word, sum(finding.severity == word for finding in findings)) for word in MARKS]
    words = [f"{count:,} {word}{'s' if count > 1 and word != 'info' else ''}" for word, count in counts if count]
    return f"{', '.join(words) or 'no findings'} in {passes:,} backward pass{'' if passes == 1 else 'es'}"


def sentence(text: str) -> str:
    """Return the text with its full stop.

    >>> sentence("lower the learning rate"), sentence("why?")
    ('lower the learning rate.', 'why?')
    """
    return text if text.endswith((".", "!", "?")) else f"{text}."
