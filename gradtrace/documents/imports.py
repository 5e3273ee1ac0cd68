"""The modules of a project that a script imports, found without running anything."""

from __future__ import annotations

import ast
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["local_modules"]

INSTALLED = {"site-packages", "dist-packages"}
STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
OWN = Path(__file__).parents[1].resolve()  # whose version is a part of each key


def local_modules(code: str, folder: str, paths: Sequence[str]) -> list[Path]:
    """Return the files that the code imports, directly or not, sorted; installed packages are left out.

    Args:
        code: what is run; nothing is modules in what is no Python.
        folder: where it stands, and finds modules first.
        paths: where it finds them then.
    """
    modules: dict[Path, None] = {}
    waiting = [(code, "", [folder, *filter(None, paths)])]
    while waiting:
        text, package, places = waiting.pop()
        for name in _imported(text, package):
            for file, own in _files(name, places):
                if file not in modules and _is_local(file):
                    modules[file] = None
                    waiting.append((file.read_text(encoding="utf-8", errors="replace"), own, places))
    return sorted(modules)


def _imported(text: str, package: str) -> Iterator[str]:
    """Yield the names of modules in the code's import statements, wherever they stand."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level and package else []
            base = ".".join([*parents, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)  # which may be modules, too


def _files(name: str, places: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the file of a module and those of the packages around it, each with the package that it is in."""
    here: Sequence[str] | None = places
    parts = [part for part in name.split(".") if part]
    for depth, part in enumerate(parts, 1):
        spec = PathFinder.find_spec(part if depth == 1 else ".".join(parts[:depth]), here) if here else None
        if spec is None:
            return
        here = spec.submodule_search_locations
        if spec.origin and spec.origin.endswith(".py"):
            yield Path(spec.origin), ".".join(parts[: depth if here else depth - 1])


def _is_local(file: Path) -> bool:
    real = file.resolve()
    installed = INSTALLED.intersection(real.parts) or any(real.is_relative_to(place) for place in STANDARD)
    return not installed and not real.is_relative_to(OWN)
