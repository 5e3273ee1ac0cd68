"""Aliases of a ``.grad``: read after the gradient was zeroed, or added to by a later backward.

Names are not visible here, only calls and references. The script took ``x.grad``, and when it was changed something
else held it still; then it was read without having been taken from ``x`` again. A tensor that is given
twice in one list, or compared with itself, was taken twice, too.
"""

from __future__ import annotations

import sys
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from gradtrace.model import Attribute

__all__ = ["Aliases"]

_ZEROING = {"zero_", "_foreach_zero_"}
_COMPARING = {"sub", "__sub__", "__rsub__", "equal", "allclose", "isclose", "eq", "__eq__", "dist", "cosine_similarity"}


class _Taken:
    """A ``.grad`` that the script took: its leaf, whether it was used since or taken again, and what changed it."""

    __slots__ = ("again", "changed", "changes", "fresh", "grad", "leaf", "leaf_id", "reads", "version")

    def __init__(self, leaf: torch.Tensor, grad: torch.Tensor) -> None:
        self.leaf = weakref.ref(leaf)
        self.leaf_id = id(leaf)
        self.grad = weakref.ref(grad)
        self.version = grad._version
        self.fresh = True
        self.again = False
        self.changed = ""  # how it was changed since it was taken last
        self.changes = 0  # passes that changed it while something else held it
        self.reads: set[int] = set()  # counts of such passes after which another name read it


class _Read:
    """A line that read a changed gradient by a second name."""

    def __init__(self, state: _Taken, how: str, pass_index: int) -> None:
        self.state, self.how, self.pass_index = state, how, pass_index
        self.place = find_user_place(sys._getframe(1))[0]


class Aliases:
    """Tracks the gradients that the script takes."""

    def __init__(self) -> None:
        self.taken: dict[int, _Taken] = {}
        self._reads: list[_Read] = []
        self._last = 0

    def take(self, leaf: torch.Tensor, grad: torch.Tensor) -> None:
        """Note that the script took ``leaf.grad``."""
        state = self.taken.get(id(grad))
        if state is None or state.grad() is not grad:
            self.taken[id(grad)] = _Taken(leaf, grad)
            return
        state.fresh = state.again = True
        state.version = grad._version
        state.changed = ""  # whoever reads it now may have it under its new name

    def use(self, name: str, args: tuple[Any, ...]) -> None:
        """Note a call with these arguments."""
        seen: list[int] = []
        for arg in args:
            if isinstance(arg, (list, tuple)):
                self._use_list(name, arg)
                continue
            state = self._state(arg)
            if state is not None:
                if id(arg) in seen and name in _COMPARING:
                    self._note(state, "compared")
                seen.append(id(arg))
                self._used(state, name)

    def passed(self, pass_index: int) -> None:
        """Note the end of a pass: taken gradients that it added to and that something else holds are tracked on."""
        self._last = pass_index
        kept = {}
        for key, state in self.taken.items():
            grad, leaf = state.grad(), state.leaf()
            if grad is None or leaf is None or leaf.grad is not grad or grad._version == state.version:
                continue
            if sys.getrefcount(grad) > _unheld():
                state.version, state.fresh = grad._version, False
                state.changed, state.changes = "added", state.changes + 1
                kept[key] = state
        self.taken = kept

    def of_run(self, names: dict[int, str]) -> list[tuple[str, tuple[int, ...], Place | None, dict[str, Attribute]]]:
        """Return the gradients read after a change, once for each line.

        What is read by its second name after one pass and after another is the current gradient on purpose.
        """
        unique = {read.place: read for read in reversed(self._reads) if len(read.state.reads) <= 1}
        return [
            ("alias", (), place, {"name": names.get(read.state.leaf_id, ""), "how": read.how, "pass": read.pass_index})
            for place, read in unique.items()
        ]

    def _state(self, arg: Any) -> _Taken | None:
        state = self.taken.get(id(arg)) if isinstance(arg, torch.Tensor) else None
        return state if state is not None and state.grad() is arg else None

    def _use_list(self, name: str, items: Any) -> None:
        ids = [id(item) for item in items]
        for item in items:
            state = self._state(item)
            if state is not None:
                if ids.count(id(item)) > 1:
                    self._note(state, "listed")
                self._used(state, name)

    def _used(self, state: _Taken, name: str) -> None:
        if name in _ZEROING:
            # Zeroing through the alias itself is no mistake.
            state.changed = "zeroed" if state.fresh and state.again else ""
        elif state.changed and not state.fresh:
            state.reads.add(state.changes)
            self._reads.append(_Read(state, state.changed, self._last))
            state.changed = ""
        state.fresh = False

    def _note(self, state: _Taken, how: str) -> None:
        if state.changes and len(self._reads) < 1000:  # noqa: PLR2004 - lines, and there are not that many
            self._reads.append(_Read(state, how, self._last))


@cache
def _unheld() -> int:
    """Return the reference count of a leaf's gradient that nothing in Python holds, as ``passed`` counts."""
    leaf = torch.zeros(1, requires_grad=True)
    leaf.grad = torch.zeros(1)
    reference = weakref.ref(leaf.grad)
    grad = reference()
    return sys.getrefcount(grad)
