"""Check the prose of README, CONTRIBUTING, docs and the help texts: proselint, long sentences, and odd words.

Run by ``make lint``. ``proselint.json`` beside this file selects proselint's checks.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from proselint.checks import __register__
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

from gradtrace.cli import app_with

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
LONGEST = 35  # words of a sentence
MEAN = 17  # words of a sentence, on average over a page
WRITTEN = {"benchmarks.md"}  # by a program
CODE = re.compile(
    r"^(?P<mark>`{3,}).*?^(?P=mark)`*$|^\|[-| :]+\|$|<!--.*?-->|`[^`\n]*`|\]\([^)\n]*\)|https?://\S+",
    re.DOTALL | re.MULTILINE,
)
HEADING = re.compile(r"(?<=^)#.*$", re.MULTILINE)
# What readers stumbled over: a word that does not mean here what it usually means, or that nobody uses.
ODD = re.compile(
    r"\b(what can be noticed|at once a|of any size|had no turn|strikes?|ours|its truth|riddle|anew|"
    r"wherever|whatever|whence|thereof|hereby|lest|albeit|ere|naught|oft|perhaps you|gives? away|in the midst|"
    r"tells? (?:how|what|which|of|that)|is told|are told|said in full|for whoever|by itself alone|"
    r"(?P<again>the|an?|and|or|of|to|is|in) (?P=again))\b",
    re.IGNORECASE,
)


class Remark(NamedTuple):
    """A problem: where it is, and what it is."""

    page: str
    line: int
    words: str


def main() -> int:
    """Print the remarks on all pages, and return how many there are."""
    checks = json.loads((HERE / "proselint.json").read_text())
    CheckRegistry().register_many(__register__)
    found = [remark for name, text in pages() for remark in remarks(name, text, checks)]
    for remark in found:
        print(f"{remark.page}:{remark.line}: {remark.words}")
    return min(len(found), 1)


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each page, and of the help of each command."""
    files = [HERE.parent / "README.md", HERE.parent / "CONTRIBUTING.md", *sorted(HERE.glob("*.md"))]
    for path in files:
        if path.name not in WRITTEN:
            yield str(path.relative_to(HERE.parent)), path.read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app_with())
    for name, command in group.commands.items():
        options = [parameter.help or "" for parameter in command.params]
        yield f"gradtrace {name} --help", "\n\n".join([command.help or "", command.short_help or "", *options])


def remarks(page: str, text: str, checks: dict[str, Any]) -> Iterator[Remark]:
    """Yield what is wrong with a page; code is left out."""
    prose = CODE.sub(
        lambda found: re.sub(r"[^\n]", "q" if found[0][0] == "`" and not found["mark"] else " ", found[0]), text
    )
    for result in LintFile(page, HEADING.sub("", prose)).lint({"max_errors": 100, "checks": checks}):
        yield Remark(page, result.pos[0], f"{result.check_result.check_path}: {result.check_result.message}")
    for match in ODD.finditer(prose):
        yield Remark(page, prose.count("\n", 0, match.start()) + 1, f"odd words: {match[0]!r}")
    lengths = []
    for line, words in sentences(prose):
        lengths.append(words)
        if words > LONGEST:
            yield Remark(page, line, f"a sentence of {words} words")
    if lengths and sum(lengths) / len(lengths) > MEAN:
        yield Remark(page, 1, f"sentences of {sum(lengths) / len(lengths):.1f} words on average")


def sentences(prose: str) -> Iterator[tuple[int, int]]:
    """Yield the line and the number of words of each sentence; a heading, an item and a cell is one, too."""
    start = 0
    for end in re.finditer(r"[.!?:;](?=\s)|\n\s*\n|\n(?=\s*[-*#|:]|\s*\d+\. )|\||$", prose):
        words = re.findall(r"[A-Za-zÀ-ÿ][\w'’-]*", prose[start : end.start()])  # noqa: RUF001
        if len(words) > 1:
            first = len(prose[start:]) - len(prose[start:].lstrip())
            yield prose.count("\n", 0, start + first) + 1, len(words)
        start = end.end()


if __name__ == "__main__":
    sys.exit(main())
