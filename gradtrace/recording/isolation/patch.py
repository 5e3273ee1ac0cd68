"""Patches and hooks in other people's places, which can be installed and uninstalled."""

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
    """Something of ours that others could meet."""

    def install(self) -> None:
        """Be there."""

    def uninstall(self) -> None:
        """Leave everything as it is without us."""


def _standing(owner: Any, name: str) -> Any:
    """Return what ``inspect.getattr_static`` finds in a module or a class, which would take most of an entry."""
    for space in owner.__mro__ if isinstance(owner, type) else (owner,):
        if name in vars(space):
            return vars(space)[name]
    raise AttributeError(name)


class Patch:
    """An attribute of a module or class that is ours for a while.

    Where the script has put its own there meanwhile, that stays, and ours with it, which it may call.
    """

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self._owner = owner
        self._name = name
        self._value = value
        self._covered = False
        # As it stands there: a classmethod, say, and not the method that it gives.
        self._original = _standing(owner, name)

    def install(self) -> None:
        """Put our value there."""
        if not self._covered:
            setattr(self._owner, self._name, self._value)

    def uninstall(self) -> None:
        """Put the original value back."""
        self._covered = _standing(self._owner, self._name) is not self._value
        if not self._covered:
            setattr(self._owner, self._name, self._original)


class Registered:
    """A hook of ours among torch's global ones for a while, as ``register`` puts it there."""

    def __init__(self, register: Callable[[Any], Any], hook: Callable[..., None]) -> None:
        self._register = register
        self._hook = hook
        self._handle: Any = None

    def install(self) -> None:
        """Register the hook."""
        self._handle = self._register(self._hook)

    def uninstall(self) -> None:
        """Remove it."""
        if self._handle is not None:
            self._handle.remove()


class OnImport:
    """Calls ``done`` when the module ``name`` has been imported, which is found as python would find it."""

    def __init__(self, name: str, done: Callable[[], None]) -> None:
        self._name = name
        self._done = done

    def install(self) -> None:
        """Wait for the import, if it is still to come."""
        if self._name in sys.modules:
            self._done()
        else:
            sys.meta_path.insert(0, self)

    def uninstall(self) -> None:
        """Wait no longer."""
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
