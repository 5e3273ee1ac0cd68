"""Processes that a script starts: how they are told to record themselves, by variables that they inherit."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from gradtrace.files import PACKAGE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ChildOptions", "has_children", "inherited_options", "recorded_children"]

VARIABLE = "GRADTRACE_CHILDREN"  # read by start/sitecustomize.py, too
# Python imports the sitecustomize that stands first on its path, in each process that inherits the path.
STARTER = os.path.join(PACKAGE_FOLDER, "recording", "script", "start")  # noqa: PTH118 - text, as in PYTHONPATH


class ChildOptions(msgspec.Struct, frozen=True):
    """Options of a child's recording, and the absolute name of its file, to which what tells it apart is added."""

    output: str
    ranks: tuple[int, ...] = ()
    keep: tuple[int, ...] | None = None
    calls: bool = False
    numeric: bool = False
    every: int = 0  # keep each pass of a number that this divides, in place of ``keep``


@contextmanager
def recorded_children(options: ChildOptions) -> Iterator[None]:
    """Let the python processes that are started meanwhile, and those that they start, record themselves."""
    before = {name: os.environ.get(name) for name in (VARIABLE, "PYTHONPATH")}
    os.environ[VARIABLE] = msgspec.json.encode(options).decode()
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (STARTER, before["PYTHONPATH"])))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def has_children() -> bool:
    """Tell whether this process has started others, and waited for their end."""
    with suppress(ImportError):  # there is none on Windows
        import resource  # noqa: PLC0415

        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
    return False


def inherited_options() -> ChildOptions | None:
    """Return what the process that started this one asks for; None if it asks for nothing."""
    text = os.environ.get(VARIABLE)
    return None if text is None else msgspec.json.decode(text, type=ChildOptions)
