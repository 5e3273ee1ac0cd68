"""Named plugins: formats and checks. A plugin is one decorated function; its docstring is its help."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from gradtrace.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Plugin", "Registry"]

F = TypeVar("F")


class Plugin(Struct, Generic[F], frozen=True):
    """A registered function, its name, and the file endings it stands for."""

    name: str
    function: F
    suffixes: tuple[str, ...] = ()

    @property
    def help(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]


class Registry(Generic[F]):
    """The plugins of one kind: our own, found in one package, and third parties' by entry point.

    They are imported when first asked for, so that a registry costs nothing at start.

    Args:
        kind: what a plugin is called in messages (``format``).
        package: the package whose modules register our own.
        group: the entry point group of third parties' plugins; each loads to a module or function
            that registers itself on import.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._plugins: dict[str, Plugin[F]] = {}
        self._loaded = False

    def register(self, name: str, *suffixes: str) -> Callable[[F], F]:
        """Return a decorator that registers a function under ``name`` and its file endings."""

        def decorate(function: F) -> F:
            self._plugins[name] = Plugin(name, function, suffixes)
            return function

        return decorate

    def __getitem__(self, name: str) -> Plugin[F]:
        """Return the plugin called ``name``; raises UnknownNameError, which is also a KeyError."""
        self._load()
        if name not in self._plugins:
            raise UnknownNameError.of(self.kind, name, self)
        return self._plugins[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a plugin called ``name``."""
        self._load()
        return name in self._plugins

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in alphabetical order."""
        self._load()
        return iter(sorted(self._plugins))

    def for_suffix(self, filename: str) -> Plugin[F] | None:
        """Return the plugin with the longest file ending that ``filename`` has, or None."""
        found = [
            (len(suffix), name)
            for name in self
            for suffix in self._plugins[name].suffixes
            if filename.lower().endswith(suffix)
        ]
        return self._plugins[max(found)[1]] if found else None

    def _load(self) -> None:
        if self._loaded:
            return
        from importlib.metadata import entry_points  # noqa: PLC0415 - 10 ms, for which --help need not wait

        self._loaded = True
        package = import_module(self._package)
        for module in iter_modules(package.__path__):
            import_module(f"{self._package}.{module.name}")
        for entry_point in entry_points(group=self._group):
            entry_point.load()
