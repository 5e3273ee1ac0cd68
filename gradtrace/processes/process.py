"""This process among many, as the launcher's environment says, and the name of the file that it writes."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from msgspec import Struct

from gradtrace.errors import GradtraceError

__all__ = ["Process", "file_name", "read_ranks", "this_process", "with_part"]

_PLACEHOLDERS = ("{rank}", "{world}", "{host}", "{restart}")


class Process(Struct, frozen=True):
    """A process of ``world``: its rank, its host, and how often the launcher had started them again."""

    rank: int = 0
    world: int = 1
    host: str = ""
    restart: int = 0

    @property
    def is_one_of_many(self) -> bool:
        """True if there are others."""
        return self.world > 1


def this_process() -> Process:
    """Return what torchrun, and whoever else sets its variables, says of this process."""
    host = platform.node()
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        return Process(host=host)
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "")
    return Process(int(rank), int(world), host, int(restart) if restart.isdecimal() else 0)


def file_name(pattern: str, process: Process) -> str:
    """Return the name of the file of one process: ``run.json.gz`` becomes ``run.rank3.json.gz``.

    ``{rank}``, ``{world}``, ``{host}`` and ``{restart}`` in it are filled in. Where there are several processes and
    nothing in the name tells their files apart, the rank is added; so is the number of restarts, if there were any.

    >>> file_name("run.json.gz", Process(3, 8))
    'run.rank3.json.gz'
    >>> file_name("run.json.gz", Process(3, 8, restart=1))
    'run.restart1.rank3.json.gz'
    >>> file_name("{host}/{rank}-of-{world}.json", Process(3, 8, "node7"))
    'node7/3-of-8.json'
    >>> file_name("run.json", Process())
    'run.json'
    """
    if pattern == "-":
        return pattern
    missing = [f"restart{process.restart}"] if process.restart and "{restart}" not in pattern else []
    missing += [f"rank{process.rank}"] if process.is_one_of_many and "{rank}" not in pattern else []
    values = (process.rank, process.world, process.host, process.restart)
    for placeholder, value in zip(_PLACEHOLDERS, values, strict=True):
        pattern = pattern.replace(placeholder, str(value))
    return with_part(pattern, *missing)


def with_part(name: str, *parts: str) -> str:
    """Return a file's name with these parts before its ending.

    >>> with_part("runs/run.json.gz", "rank3")
    'runs/run.rank3.json.gz'
    """
    if not parts:
        return name
    path = Path(name)
    ending = path.suffix if path.suffix != ".gz" else Path(path.stem).suffix + ".gz"
    return str(path.with_name(".".join([path.name.removesuffix(ending), *parts]) + ending))


def read_ranks(text: str) -> frozenset[int]:
    """Return the ranks in ``text``, as in ``0,3`` or ``0-3``; raises GradtraceError.

    >>> sorted(read_ranks("0,4-6"))
    [0, 4, 5, 6]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise GradtraceError(f"{text!r} is not a list of ranks", "write them as 0,3 or 0-3")
        found.update(range(int(first), int(last) + 1))
    return frozenset(found)
