"""Files written whole or not at all, so that a stopped run leaves no half of one; and the folder of this package."""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gradtrace.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["PACKAGE_FOLDER", "check_writable", "make_folder", "write_whole"]

PACKAGE_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")  # noqa: PTH100, PTH118, PTH120 - text


def make_folder(path: str | Path) -> None:
    """Make a folder and those that it stands in, where they are missing; raises OutputError."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"can't make the folder {str(path)!r}: {reason}", "write elsewhere") from error


def check_writable(path: str | Path) -> None:
    """Raise OutputError if a file can't be written at ``path``; nothing is made or changed."""
    with _told(path):
        target = _target(path)
        if target.is_dir():
            raise OutputError(f"{str(path)!r} is a directory", "name a file in it")
        if not target.parent.is_dir():
            raise OutputError(f"no such folder {str(Path(path).parent)!r}", "make it first, or write elsewhere")
        # A new file, and one that is replaced, need the folder; a device or a pipe is written where it is.
        needed = [target] if target.exists() else []
        needed += [] if _is_special(target) else [target.parent]
        for place in needed:
            if not os.access(place, os.W_OK):
                raise OutputError(f"{str(path)!r} can't be written: no permission for {str(place)!r}")


def write_whole(path: str | Path, data: str | bytes | Iterable[bytes]) -> None:
    """Write ``data`` to ``path`` at once: all of it or nothing; a name that ends in ``.gz`` is compressed.

    Text is UTF-8; much of it is better given in pieces. A file that was there keeps its permissions, and a
    link stays a link. Raises OutputError, and leaves what was there before.
    """
    pieces = [data.encode()] if isinstance(data, str) else [data] if isinstance(data, bytes) else data
    write = _write_gzip if str(path).lower().endswith(".gz") else _write
    check_writable(path)
    with _told(path):
        target = _target(path)
        if _is_special(target):
            write(target, pieces)
        else:
            _replace(target, lambda part: write(part, pieces))


def _target(path: str | Path) -> Path:
    """Return what is to be written: behind a link its file, but a device or a pipe by the name given."""
    return Path(path) if _is_special(Path(path)) else Path(os.path.realpath(path))


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    """Write a neighbour of ``target``, then give it the name: readers see the old file or the new one."""
    part = target.parent / f".gradtrace-{secrets.token_hex(8)}.part"
    try:
        write(part)
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _is_special(target: Path) -> bool:
    """Tell whether ``target`` is a device or a pipe (``/dev/stdout``), which must not be replaced."""
    return target.exists() and not target.is_file()


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


def _write_gzip(path: Path, pieces: Iterable[bytes]) -> None:
    """Compress without the time and the name, so that the same content gives the same bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        file.writelines(pieces)


@contextlib.contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Turn what the system says of ``path`` into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{str(path)!r} can't be written: {(error.strerror or str(error)).lower()}") from error
