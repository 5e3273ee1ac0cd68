"""Quoting: text of a script made safe for one line, for each language that it is put into, and for little room.

One function for each language. Whatever text it is given, what it returns is text in that language, well-formed,
in which nothing moves a cursor, hides, or turns the direction of reading; such characters stand as Python's escapes.
"""

from __future__ import annotations

import re

__all__ = ["code_line", "escaped", "github_text", "markdown_code", "markdown_text", "mermaid_comment", "mermaid_text",
           "one_line", "shorten", "tex_text", "tooltip", "visible"]  # fmt: skip

LONGEST_STRING = 15_000  # bytes
MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})  # as html.escape has it
# Characters with a meaning in Mermaid or its Markdown, with their entities.
MERMAID = {ord(c): f"#{ord(c)};" for c in "#\"<>&`*_[]{}()|\\;%~$^=@!/+-:'"}
# Characters with a meaning in Markdown, or in HTML inside it.
MARKDOWN = {ord(c): f"&#{ord(c)};" for c in "|`*_[]<>&\\~#$@!"}
# What TeX would read as more than text, and what its usual fonts have only in mathematics.
TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "‖": r"$\|$", "×": r"$\times$", "∂": r"$\partial$", "→": r"$\to$", "…": r"\dots{}",
    "·": r"$\cdot$", "–": "--", "−": "$-$", '"': "''", "'": "{'}", "`": "{`}",
    "[": "{[}", "]": "{]}", "-": "{-}",
}  # fmt: skip


def visible(text: str) -> str:
    r"""Return text with what can't be seen, moves a cursor or is illegal in XML as Python's escapes; lines stay.

    >>> visible("a\x1b[31m\nb\u202e")
    'a\\x1b[31m\nb\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    r"""Return text on one line, with what can't be seen as Python's escapes.

    >>> one_line("f(x,\n  '\x1b[31m')")
    "f(x, '\\x1b[31m')"
    """
    return visible(" ".join(text.split()))


def code_line(text: str) -> str:
    r"""Return an expression on one line, a call's arguments without the gaps that broken lines leave.

    >>> code_line("self.attn(\n    x, x,\n    need_weights=False,\n)")
    'self.attn(x, x, need_weights=False,)'
    """
    return one_line(re.sub(r"(?<=[(\[{])\s*\n\s*|\s*\n\s*(?=[)\]}])", "", text))


def escaped(text: str, depth: int = 1) -> str:
    r"""Return text for a label of Graphviz, which reads entities and backslashes; its tooltips it reads twice.

    >>> escaped("a < b"), escaped("\\n"), escaped("\\n", 2)
    ('a &lt; b', '\\\\n', '\\\\\\\\n')
    """
    return visible(text).translate(MARKUP).replace("\\", "\\" * 2**depth)


def mermaid_text(text: str) -> str:
    """Return text for a quoted label of Mermaid.

    >>> mermaid_text("u[0] = 2")
    'u#91;0#93; #61; 2'
    """
    return one_line(text).translate(MERMAID)


def mermaid_comment(text: str) -> str:
    """Return text for a comment of Mermaid, which may hold a directive.

    >>> mermaid_comment("%%{init: {}}%% of train.py")
    '(init: ()) of train.py'
    """
    return one_line(text).replace("%", "").translate(str.maketrans("{}<>", "()()"))


def markdown_text(text: str) -> str:
    """Return text for a paragraph or the cell of a table in Markdown.

    >>> markdown_text("a_1 | b")
    'a&#95;1 &#124; b'
    """
    return one_line(text).translate(MARKDOWN)


def markdown_code(text: str) -> str:
    """Return text as a span of code in Markdown, between more backticks than it has in a row.

    >>> markdown_code("a | b"), markdown_code("`x`")
    ('`a | b`', '`` `x` ``')
    """
    text = one_line(text) or " "
    most = max((len(run) for run in re.findall("`+", text)), default=0)
    around = " " if most or text.isspace() else ""
    return f"{'`' * (most + 1)}{around}{text}{around}{'`' * (most + 1)}"


def tex_text(text: str) -> str:
    r"""Return text for TeX; what its usual fonts lack is its code point.

    >>> print(tex_text("∂f/∂u_1 = 50 %"), tex_text("日"))
    $\partial$f/$\partial$u\_1 = 50 \% {U+65E5}
    """
    return "".join(TEX.get(c) or (c if c.isascii() else f"{{U+{ord(c):04X}}}") for c in one_line(text))


def github_text(text: str, more: str = "") -> str:
    r"""Return text for a workflow command of GitHub, or for a property of one, in which ``more`` has a meaning.

    >>> github_text("50 %, then:\nmore", ":")
    '50 %25, then%3A%0Amore'
    """
    text = visible(text)
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def tooltip(text: str) -> str:
    """Return text for a tooltip of Graphviz, which reads 16 KB of it at most."""
    most, found = len(text), escaped(text, 2)
    while len(found.encode()) > LONGEST_STRING:
        most //= 2
        found = escaped(shorten(text, most), 2)
    return found


def shorten(text: str, longest: int) -> str:
    """Return text of at most ``longest`` characters, cut in the middle: both ends of an expression matter.

    >>> shorten("torch.nn.functional.relu(x)", 16), shorten("relu(x)", 16)
    ('torch.n … elu(x)', 'relu(x)')
    """
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 2
    return f"{text[: longest - 3 - tail].rstrip()} … {text[-tail:].lstrip()}"
