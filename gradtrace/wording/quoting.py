"""Quoting: text of a script made safe for one line, for Graphviz, and for little room."""

from __future__ import annotations

__all__ = ["escaped", "one_line", "shorten"]

MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})  # as html.escape has it


def one_line(text: str) -> str:
    r"""Return text on one line, with what can't be seen, moves a cursor or is illegal in XML as Python's escapes.

    >>> one_line("f(x,\n  '\x1b[31m')")
    "f(x, '\\x1b[31m')"
    """
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped(text: str, depth: int = 1) -> str:
    r"""Return text for a label of Graphviz, which reads entities and backslashes; its tooltips it reads twice.

    >>> escaped("a < b"), escaped("\\n"), escaped("\\n", 2)
    ('a &lt; b', '\\\\n', '\\\\\\\\n')
    """
    return text.translate(MARKUP).replace("\\", "\\" * 2**depth)


def shorten(text: str, longest: int) -> str:
    """Return text of at most ``longest`` characters, cut in the middle: both ends of an expression matter.

    >>> shorten("torch.nn.functional.relu(x)", 16), shorten("relu(x)", 16)
    ('torch.n … elu(x)', 'relu(x)')
    """
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 2
    return f"{text[: longest - 3 - tail].rstrip()} … {text[-tail:].lstrip()}"
