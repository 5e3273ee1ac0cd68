"""Things of ours in other people's places, which can be taken away and put back."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

__all__ = ["Patch", "Removable"]


class Removable(Protocol):
    """Something of ours that others could meet."""

    def put(self) -> None:
        """Be there."""

    def take_away(self) -> None:
        """Leave everything as it is without us."""


class Patch:
    """An attribute of a module or class that is ours for a while."""

    def __init__(self, owner: Any, name: str, value: Any) -> None:
        self._owner = owner
        self._name = name
        self._value = value
        # As it stands there: a classmethod, say, and not the method that it gives.
        self._original = inspect.getattr_static(owner, name)

    def put(self) -> None:
        """Put our value there."""
        setattr(self._owner, self._name, self._value)

    def take_away(self) -> None:
        """Put the original value back."""
        setattr(self._owner, self._name, self._original)
