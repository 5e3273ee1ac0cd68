"""A second name for a ``.grad``: read after the gradient under it was zeroed.

No name is seen here, only calls: the script took ``x.grad``, later took it again and zeroed that, and then
read the tensor without taking it from ``x``: so the first time it was bound to a name. Between a zeroing
and the next backward nobody wants to read the zeros.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.sources import Place, locate

if TYPE_CHECKING:
    from gradtrace.model import Attribute

__all__ = ["Aliases"]

_ZEROING = {"zero_", "_foreach_zero_"}


class _Taken:
    """A ``.grad`` that the script took: from which leaf, unused since, more than once, and where it was zeroed."""

    __slots__ = ("again", "fresh", "grad", "leaf", "zeroed")

    def __init__(self, leaf: torch.Tensor, grad: torch.Tensor) -> None:
        self.leaf = weakref.ref(leaf)
        self.grad = weakref.ref(grad)
        self.fresh = True
        self.again = False
        self.zeroed: Place | None = None


class Aliases:
    """Follows the gradients that the script takes between two backward passes."""

    def __init__(self) -> None:
        self.taken: dict[int, _Taken] = {}
        self.found: list[tuple[weakref.ref[torch.Tensor], Place | None, Place]] = []

    def take(self, leaf: torch.Tensor, grad: torch.Tensor) -> None:
        """Note that the script took ``leaf.grad``."""
        state = self.taken.get(id(grad))
        if state is None or state.grad() is not grad:
            self.taken[id(grad)] = _Taken(leaf, grad)
        else:
            state.fresh = state.again = True

    def use(self, name: str, args: tuple[Any, ...]) -> None:
        """Note a call with these arguments."""
        for arg in args:
            for tensor in arg if isinstance(arg, (list, tuple)) else (arg,):
                state = self.taken.get(id(tensor)) if isinstance(tensor, torch.Tensor) else None
                if state is not None and state.grad() is tensor:
                    self._used(state, name)

    def _used(self, state: _Taken, name: str) -> None:
        if name in _ZEROING:
            # Zeroed by the name itself, it is no surprise under that name.
            state.zeroed = locate(sys._getframe(1))[0] if state.fresh and state.again else None
        elif state.zeroed is not None and not state.fresh:
            self.found.append((state.leaf, locate(sys._getframe(1))[0], state.zeroed))
            state.zeroed = None
        state.fresh = False

    def forget(self) -> None:
        """Begin anew: a backward has filled the gradients again."""
        self.taken.clear()

    def of_run(self, names: dict[int, str]) -> list[tuple[str, tuple[int, ...], Place | None, dict[str, Attribute]]]:
        """Return what was read after it was zeroed, once for each line."""
        unique = {place: leaf for leaf, place, _ in self.found}
        return [("alias", (), place, {"name": names.get(id(leaf()), "")}) for place, leaf in unique.items()]
