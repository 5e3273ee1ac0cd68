"""A trace as a file: JSON of exactly the structs in model.py, gzipped where the name says so."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gradtrace.errors import TraceFileError
from gradtrace.files import write_whole
from gradtrace.model import FORMAT_VERSION, Trace
from gradtrace.validation import flaws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradtrace.model import BackwardPass

__all__ = ["begins_as_trace", "dumps", "is_trace", "load", "loads", "pass_pieces", "pieces", "save"]

T = TypeVar("T")
_CHUNK = 1000  # nodes or edges
# What a compressed file may hold, in bytes: traces of thousands of equal nodes hold 45 times as many as they have.
TIMES, ROOM = 100, 2**20
GZIP = b"\x1f\x8b"
SUFFIXES = (".json", ".json.gz")
HINT = "make one with: gradtrace record SCRIPT -o FILE"


class _Head(msgspec.Struct):
    format_version: int


def save(trace: Trace, path: str | Path) -> None:
    """Write the trace to ``path``, compressed if it ends in ``.gz``; raises OutputError."""
    write_whole(path, pieces(trace))


def load(path: str | Path) -> Trace:
    """Return the trace that ``path`` holds, compressed or not; raises TraceFileError."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise TraceFileError(f"no such file {str(path)!r}") from None
    except IsADirectoryError:
        raise TraceFileError(f"{str(path)!r} is a directory", "name a trace file in it") from None
    except OSError as error:
        raise TraceFileError(f"{str(path)!r} can't be read: {(error.strerror or str(error)).lower()}") from error
    return loads(data, str(path))


def dumps(trace: Trace) -> bytes:
    """Return the trace as one line of JSON; a number that is not finite becomes null."""
    return b"".join(pieces(trace))


def pieces(trace: Trace) -> Iterator[bytes]:
    """Yield the same line piece by piece: that of a million nodes takes as much memory as the nodes do."""
    yield from _struct(trace, {"passes": lambda: _list(trace.passes, pass_pieces)})
    yield b"\n"


def pass_pieces(graph: BackwardPass) -> Iterator[bytes]:
    """Yield one pass as it stands in the file, piece by piece."""
    lists = {"nodes": lambda: _chunks(graph.nodes), "edges": lambda: _chunks(graph.edges)}
    return _struct(graph, lists)


def _struct(value: msgspec.Struct, lists: dict[str, Callable[[], Iterator[bytes]]]) -> Iterator[bytes]:
    """Yield a struct, without the fields that have their default, as msgspec does; ``lists`` yield theirs."""
    opening = b"{"
    for field in msgspec.structs.fields(value):
        found = getattr(value, field.name)
        if not field.required and (found is field.default or found in ((), [], {})):
            continue
        yield opening + _encode(field.name) + b":"
        yield from lists[field.name]() if field.name in lists else [_encode(found)]
        opening = b","
    yield b"}"


def _list(items: Sequence[T], each: Callable[[T], Iterator[bytes]]) -> Iterator[bytes]:
    opening = b"["
    for item in items:
        yield opening
        yield from each(item)
        opening = b","
    yield b"]"


def _chunks(items: Sequence[Any]) -> Iterator[bytes]:
    starts = range(0, len(items), _CHUNK)
    return _list(starts, lambda start: iter([_encode(items[start : start + _CHUNK])[1:-1]]))


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file name that is not UTF-8, as Python reads it; the name is spoilt, the rest is not
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return msgspec.json.encode(json.loads(text.encode(errors="replace"), parse_constant=lambda _: None))


def loads(data: bytes, name: str = "trace") -> Trace:
    """Return the trace that ``data`` holds, compressed or not; ``name`` stands for it in a TraceFileError."""
    data = _unzip(data, name) if data.startswith(GZIP) else data
    version = _decode(data, _Head, name).format_version
    if version > FORMAT_VERSION:
        raise TraceFileError(
            f"{name!r} was written by a newer gradtrace (format version {version}, this one reads {FORMAT_VERSION})",
            "upgrade with: pip install --upgrade gradtrace",
        )
    trace = _decode(data, Trace, name)
    for flaw in flaws(trace):
        raise TraceFileError(f"{name!r} is damaged: {flaw}", HINT)
    return trace


def is_trace(path: str | Path) -> bool:
    """Tell whether ``path`` is meant as a trace rather than a script: by its ending, else by how it begins."""
    ending = str(path).lower()
    if ending.endswith(SUFFIXES):
        return True
    if ending.endswith((".py", ".pyw")):
        return False
    return begins_as_trace(path)


def begins_as_trace(path: str | Path) -> bool:
    """Tell whether the file begins as a trace does."""
    try:
        with Path(path).open("rb") as file:
            start = file.read(64).lstrip()
    except OSError:
        return False
    return start.startswith((GZIP, b'{"format_version"'))


def _unzip(data: bytes, name: str) -> bytes:
    most = TIMES * len(data) + ROOM
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(most + 1)
    except EOFError:
        raise TraceFileError(f"{name!r} is truncated: its compressed data ends too early", HINT) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TraceFileError(f"{name!r} is damaged: {error}", HINT) from error
    if len(text) > most:
        told = f"{name!r} holds more than {TIMES} times its size, which is what no trace does"
        raise TraceFileError(told, "unpack it with gunzip, and name the .json, if it should be read all the same")
    return text


def _decode(data: bytes, kind: type[T], name: str) -> T:
    """Return ``data`` as ``kind``, or tell in one line why it is not."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        reason = "it has no format_version" if kind is _Head else f"{error}".replace("Expected", "expected", 1)
        raise TraceFileError(f"{name!r} is not a gradtrace trace: {reason}", HINT) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not data.strip():
            raise TraceFileError(f"{name!r} is empty", HINT) from error
        if _is_cut(data, str(error)):
            raise TraceFileError(f"{name!r} is truncated: its JSON ends too early", HINT) from error
        raise TraceFileError(f"{name!r} is not JSON: {error}", HINT) from error


def _is_cut(data: bytes, error: str) -> bool:
    """Tell an object that was begun and not ended from what was never JSON."""
    return data.lstrip().startswith(b"{") and ("truncated" in error or not data.rstrip().endswith(b"}"))
