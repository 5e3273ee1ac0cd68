"""The source files of a trace: read where they lie, if what the trace says of them is found in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.model import Source, Trace

__all__ = ["source_texts", "sources_of"]

LARGEST = 400_000  # bytes of a file to show
ENDINGS = (".py", ".pyw")


def source_texts(trace: Trace, folder: Path | None = None) -> dict[str, str]:
    """Return the text of each Python file in which an expression of the trace stands where the trace says.

    A trace can name any file of this machine, and the page may be sent to others. So a file is shown only where
    the trace knows what is in it.
    """
    expected: dict[str, list[Source]] = {}
    for source in sources_of(trace):
        if source.text.strip() and source.filename.endswith(ENDINGS):
            expected.setdefault(source.filename, []).append(source)
    found = {}
    for filename, sources in expected.items():
        text = _read((folder or Path.cwd()) / filename)
        if text and any(_stands(text.splitlines(), source) for source in sources):
            found[filename] = text
    return found


def sources_of(trace: Trace) -> Iterator[Source]:
    """Yield every source that the trace names, of nodes and of calls."""
    for graph in trace.passes:
        yield from _known([graph.call, graph.error.source if graph.error else None])
        for node in graph.nodes:
            yield from _known([node.source, node.library])


def _known(sources: Iterable[Source | None]) -> Iterator[Source]:
    yield from (source for source in sources if source)


def _read(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return ""


def _stands(lines: list[str], source: Source) -> bool:
    """Tell whether an expression, or its first line, stands at its place."""
    if not 0 < source.line <= len(lines):
        return False
    return lines[source.line - 1][source.column :].startswith(source.text.splitlines()[0])
