"""Patches and hooks outside of gradtrace, which can be installed and uninstalled."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["OnImport", "Patch", "Registered", "Removable"]


class Removable(Protocol):
    """Patch or hook that code outside of gradtrace could meet."""

    def install(self) -> None:
        """Install it."""

    def uninstall(self) -> None:
        """Uninstall it, and restore what it replaced."""


def _standing(owner: Any, name: str) -> Any:
    """Return the result of ``inspect.getattr_static`` for a module or a class, in a fraction of its time."""
    for space in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in vars(space):
            return vars(space)[name]
    raise AttributeError(name)


class Patch:
    """Patch of an attribute of a module or class.

    If the script has replaced it in the meantime, its replacement stays, and so does ours, which it may call.
    """

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self._owner = owner
        self._name = name
        self._value = value
        self._covered = False
        # The static attribute: a classmethod object, say, rather than the bound method.
        self._original = _standing(owner, name)

    def install(self) -> None:
        """Set our value."""
        if not self._covered:
            setattr(self._owner, self._name, self._value)

    def uninstall(self) -> None:
        """Restore the original value."""
        self._covered = _standing(self._owner, self._name) is not self._value
        if not self._covered:
            setattr(self._owner, self._name, self._original)


class Registered:
    """Global hook of torch, added by ``register``."""

    def __init__(self, register: Callable[[Any], Any], hook: Callable[..., None]) -> None:
        self._register = register
        self._hook = hook
        self._handle: Any = None

    def install(self) -> None:
        """Register the hook."""
        self._handle = self._register(self._hook)

    def uninstall(self) -> None:
        """Remove the hook."""
        if self._handle is not None:
            self._handle.remove()


class OnImport:
    """Import hook: calls ``done`` when the module ``name`` has been imported, by python's own finders."""

    def __init__(self, name: str, done: Callable[[], None]) -> None:
        self._name = name
        self._done = done

    def install(self) -> None:
        """Install the finder, unless the module is imported already."""
        if self._name in sys.modules:
            self._done()
        else:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Remove the finder."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Return the module's spec, None for all other modules."""
        if name != self._name:
            return None
        self.uninstall()
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec else None
        execute = loader.exec_module

        def execute_and_tell(module: ModuleType) -> None:
            execute(module)
            self._done()

        loader.exec_module = execute_and_tell
        return spec
