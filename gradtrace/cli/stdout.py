"""Stdout that can't be written: full, closed, or without a reader."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gradtrace.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["flush", "stdout_errors"]


@contextmanager
def stdout_errors() -> Iterator[None]:
    """Convert an OSError of stdout to an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"stdout can't be written: {(error.strerror or str(error)).lower()}") from error


def flush() -> None:
    """Flush stdout; raises OutputError."""
    try:
        with stdout_errors():
            if sys.stdout is not None:
                sys.stdout.flush()
    except OutputError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # otherwise python flushes again at exit, and prints an error
        raise
