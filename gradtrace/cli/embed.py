"""``gradtrace embed``: update the graphs inside Markdown files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradtrace.cli.output import say
from gradtrace.errors import DocumentError
from gradtrace.files import check_writable, write_whole

if TYPE_CHECKING:
    from gradtrace.documents.blocks import Refreshed

__all__ = ["embed"]

Files = Annotated[list[str], typer.Argument(metavar="FILE.md...", help="Markdown files.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if a graph is out of date.")]


def embed(files: Files, *, check: Check = False) -> None:
    """Run the scripts that a Markdown file names, and update the graphs in it.

    A graph stands between <!-- gradtrace: SCRIPT format=FORMAT --> and <!-- /gradtrace -->.
    """
    texts = {Path(name): _text(name) for name in files}
    if not check:
        for path in texts:
            check_writable(path)
    from gradtrace.documents.blocks import refreshed  # noqa: PLC0415 - the formats, which a wrong file doesn't need

    stale = 0
    for path, text in texts.items():
        stale += _settle(path, text, refreshed(path, text), check=check)
    raise typer.Exit(int(check and stale > 0))


def _text(name: str) -> str:
    try:
        return Path(name).read_bytes().decode()
    except FileNotFoundError:
        raise DocumentError(f"no such file: {name!r}", "name a Markdown file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{name!r} can't be read: {error}", "name a Markdown file in UTF-8") from None


def _settle(path: Path, text: str, new: Refreshed, *, check: bool) -> int:
    """Write the changed files, or only report them; return their number."""
    files: dict[Path, tuple[bytes | None, bytes]] = {path: (text.encode(), new.text.encode())}
    files |= {picture: (_bytes(picture), data) for picture, data in new.pictures.items()}
    changed = {file: data for file, (old, data) in files.items() if old != data}
    for file, data in changed.items():
        if not check:
            write_whole(file, data)
        say(f"{file} {'is out of date; update it with: gradtrace embed ' + str(path) if check else 'updated'}")
    if not changed:
        say(f"{path} is up to date")
    return len(changed)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
