"""Named plugins: formats and checks. A plugin is one decorated function; its docstring is its help."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gradtrace.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.metadata import EntryPoint

__all__ = ["Plugin", "Registry", "report_fault", "report_faults_to", "summary_of"]

F = TypeVar("F")
OWN = "gradtrace."  # how the names of gradtrace's own modules begin

_reported: dict[str, None] = {}
_listeners: list[Callable[[str], None]] = []


def report_fault(fault: str) -> None:
    """Report once what is wrong with a third party's plugin: a warning, or whatever listens to faults."""
    if fault not in _reported:
        _reported[fault] = None
        if _listeners:
            _listeners[-1](fault)
        else:
            warnings.warn(fault, stacklevel=2)


def report_faults_to(listener: Callable[[str], None]) -> None:
    """Report the faults of plugins to ``listener`` from now on."""
    _listeners[:] = [listener]


def summary_of(error: BaseException) -> str:
    """Return an exception on one line.

    >>> summary_of(ZeroDivisionError("division by zero"))
    'ZeroDivisionError: division by zero'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


class Plugin(Struct, Generic[F], frozen=True):
    """A registered function, its name, the file endings it stands for, and for a third party's what brought it."""

    name: str
    function: F
    suffixes: tuple[str, ...] = ()
    source: str = ""
    whole: bool = False  # one output shows all passes

    @property
    def help(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def home(self) -> str:
        """Its distribution and entry point, or else its module."""
        return self.source or str(getattr(self.function, "__module__", ""))

    @property
    def is_own(self) -> bool:
        """True if it is one of gradtrace's."""
        return not self.source and self.home.startswith(OWN)


class Registry(Generic[F]):
    """The plugins of one kind: our own, found in one package, and third parties' by entry point.

    They are imported when first asked for, so that a registry costs nothing at start. A third party's that
    can't be imported, or takes a name that is taken, is reported and left out.

    Args:
        kind: what a plugin is called in messages (``format``).
        package: the package whose modules register our own; one that stands above it has an entry point, too.
        group: the entry point group of third parties' plugins; each loads to a module or function
            that registers itself on import.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._plugins: dict[str, Plugin[F]] = {}
        self._loaded = False
        self._loading = ""  # the distribution and entry point that is being imported

    def register(self, name: str, *suffixes: str, whole: bool = False) -> Callable[[F], F]:
        """Return a decorator that registers a function under ``name`` and its file endings.

        ``whole`` tells that what it returns shows all passes of a trace.
        """

        def decorate(function: F) -> F:
            self._place(Plugin(name, function, suffixes, self._loading, whole))
            return function

        return decorate

    def holds(self, name: str, function: F) -> bool:
        """Tell whether this function is what is registered under ``name``."""
        return name in self._plugins and self._plugins[name].function is function

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
        matching = [
            (len(suffix), name)
            for name in self
            for suffix in self._plugins[name].suffixes
            if filename.lower().endswith(suffix)
        ]
        return self._plugins[max(matching)[1]] if matching else None

    def _place(self, plugin: Plugin[F]) -> None:
        """Take a plugin in, or report that its name, or an ending, belongs to another; gradtrace's own have theirs."""
        other = self._plugins.get(plugin.name, plugin)
        if other.home != plugin.home:
            kept, left = (plugin, other) if plugin.is_own else (other, plugin)
            self._plugins[plugin.name] = kept
            report_fault(
                f"{self.kind} {left.name!r} of {left.home} is left out: the name is taken by {kept.home or 'another'}"
            )
            return
        owners = {
            suffix: name for name, each in self._plugins.items() if name != plugin.name for suffix in each.suffixes
        }
        for suffix in owners.keys() & plugin.suffixes:
            whose = f"file ending {suffix!r} of {self.kind} {plugin.name!r} of {plugin.home}"
            report_fault(f"{whose} is left out: it is that of {owners[suffix]!r}")
        free = tuple(suffix for suffix in plugin.suffixes if suffix not in owners)
        self._plugins[plugin.name] = replace(plugin, suffixes=free)

    def _load(self) -> None:
        if self._loaded:
            return
        from importlib.metadata import entry_points  # noqa: PLC0415 - 10 ms, for which --help need not wait

        self._loaded = True
        package = import_module(self._package)
        for module in walk_packages(package.__path__, f"{self._package}."):
            import_module(module.name)
        for entry_point in entry_points(group=self._group):
            if entry_point.value.startswith(OWN):
                entry_point.load()
            else:
                self._load_third_party(entry_point)

    def _load_third_party(self, entry_point: EntryPoint) -> None:
        """Import what an entry point names; all or nothing of it is registered."""
        before = dict(self._plugins)
        self._loading = _described(entry_point)
        try:
            entry_point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a third party's fault stops nobody
            self._plugins = before
            report_fault(f"{self._loading} is left out: {summary_of(error)}")
        finally:
            self._loading = ""


def _described(entry_point: EntryPoint) -> str:
    named = f"entry point {entry_point.name} = {entry_point.value}"
    dist = entry_point.dist
    return f"{dist.name} {dist.version} ({named})" if dist else named
