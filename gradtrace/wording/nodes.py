"""Sentences about nodes and lines of code: ``SqrtBackward0 `torch.sqrt(x)` (train.py:12)``."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.model import Node, Source, TensorStats

__all__ = ["as_tuple", "described", "first_few", "how_many", "location", "nonfinite_word", "position", "quoted"]


def described(node: Node) -> str:
    """Return the op with its expression and line: ``sqrt `torch.sqrt(x)` (train.py:12)``."""
    source = node.source or node.library
    if node.kind != "function":
        return f"{node.kind} {one_line(node.name) or 'without a name'}"
    code = f" `{_short(source.text, 60)}`" if source and source.text else ""  # two thirds of a terminal's line
    at = position(source)
    module = f" in {one_line(node.module)}" if node.module else ""
    return f"{one_line(node.op)}{code}{f' ({at}{module})' if at else module}"


def quoted(source: Source | None) -> str:
    """Return a line's expression and place: `` `x.detach()` (train.py:12)``."""
    if source is None:
        return "a line that is not known"
    return f"`{_short(source.text, 80)}` ({position(source)})"


def location(source: Source) -> str:
    """Return a line's file, as the trace has it, and number.

    >>> from gradtrace.model import Source
    >>> location(Source("models/train.py", 12))
    'models/train.py:12'
    """
    return f"{one_line(PurePath(source.filename).as_posix())}:{source.line}"


def position(source: Source | None) -> str:
    """Return a line's file, without its folders, and number, or nothing.

    >>> from gradtrace.model import Source
    >>> position(Source("models/train.py", 12)), position(None)
    ('train.py:12', '')
    """
    return f"{one_line(PurePath(source.filename).name)}:{source.line}" if source else ""


def _short(text: str, limit: int) -> str:
    text = one_line(text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def first_few(words: Iterable[str], limit: int = 5) -> str:
    """Return the first words with commas, and how many more there are.

    >>> first_few("abc"), first_few("abcdefg", 2)
    ('a, b, c', 'a, b and 5 more')
    """
    listed = list(words)
    more = f" and {len(listed) - limit:,} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def as_tuple(shape: object) -> str:
    """Return a shape as PyTorch users write it.

    >>> as_tuple([64, 1]), as_tuple((64,)), as_tuple(())
    ('(64, 1)', '(64,)', '()')
    """
    sizes = [str(length) for length in shape] if isinstance(shape, (list, tuple)) else []
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def nonfinite_word(stats: TensorStats | None) -> str:
    """Return ``NaN``, ``infinity`` or both, after what there is.

    >>> from gradtrace.model import TensorStats
    >>> nonfinite_word(TensorStats((2,), nan=1)), nonfinite_word(TensorStats((2,), nan=1, inf=1))
    ('NaN', 'NaN and infinity')
    """
    if stats is None:
        return "NaN"
    return "NaN and infinity" if stats.nan and stats.inf else "NaN" if stats.nan else "infinity"


def how_many(stats: TensorStats | None) -> str:
    """Return how many elements are not finite: ``2 of 8 elements``."""
    if stats is None:
        return "unknown"
    total = 1
    for length in stats.shape:
        total *= length
    return f"{stats.nan + stats.inf:,} of {total:,} element{'' if total == 1 else 's'}"
