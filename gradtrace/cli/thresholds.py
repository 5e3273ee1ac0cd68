"""The thresholds of the checks: from pyproject.toml, then from the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, default_thresholds
from gradtrace.errors import GradtraceError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_threshold", "read_thresholds"]


def read_thresholds(given: Iterable[str]) -> Thresholds:
    """Return the thresholds: the defaults, ``[tool.gradtrace.thresholds]``, then each ``NAME=VALUE`` given."""
    values: dict[str, object] = dict(_of_project())
    for text in given:
        name, _, value = text.partition("=")
        values[name.strip()] = value.strip()
    known = default_thresholds()
    for name in values:
        if name not in known:
            raise UnknownNameError.of("threshold", name, known)
    return Thresholds(**{name: _number(name, value) for name, value in values.items()})


def is_threshold(text: str) -> bool:
    """Tell whether an argument is a threshold of gradtrace with a value."""
    return "=" in text and text.partition("=")[0].strip() in default_thresholds()


def _number(name: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = float("nan")
    if not number >= 0 or isinstance(value, bool):
        raise GradtraceError(
            f"threshold {name!r} must be a number of 0 or more, not {value!r}", f"write it as {name}=1e-6"
        )
    return number


def _of_project() -> dict[str, object]:
    """Return the table of the nearest pyproject.toml, looking upwards from the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            try:
                tables = tomllib.loads(path.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
                raise GradtraceError(f"can't read {str(path)!r}: {error}", "fix it, or run in another folder") from None
            return _of_table(tables.get("tool", {}).get("gradtrace", {}), str(path))
    return {}


def _of_table(table: dict[str, object], path: str) -> dict[str, object]:
    thresholds = table.get("thresholds", {})
    if not isinstance(thresholds, dict):
        raise GradtraceError(f"[tool.gradtrace] thresholds in {path!r} is not a table", "write NAME = VALUE")
    astray = next((name for name in table if name in default_thresholds()), None)
    if astray is not None:
        raise GradtraceError(f"{astray!r} in {path!r} is not read", "write it under [tool.gradtrace.thresholds]")
    return thresholds
