"""The names that the script gave to its tensors and modules, found in the frames that call backward.

The outermost frame was there first, so its names count first; within a frame, the order of binding. A
parameter is named by its path from the outermost module in reach.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradtrace.recording.user_code.frames import user_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

__all__ = ["Given", "KnownNames", "Names", "namespaces"]

# A list of ten thousand tensors names none of them usefully, and looking through it would cost.
_MAX_ITEMS = 200
_MAX_DEPTH = 3
_MANY = 10_000


def namespaces(frame: FrameType | None) -> Iterator[dict[str, Any]]:
    """Yield the variables of the user's frames from the outermost inwards, then the modules they live in."""
    seen = set()
    for found in user_frames(frame):
        if id(found.f_globals) not in seen:
            seen.add(id(found.f_globals))
            yield found.f_globals
        if found.f_locals is not found.f_globals:
            yield _locals(found)


def _locals(frame: FrameType) -> dict[str, Any]:
    """Return a copy of a function's variables that leaves no copy behind.

    Before Python 3.13 the frame keeps the dictionary it returns, and so keeps alive every tensor in it
    until the function returns. It is emptied, unless the script itself holds it (by ``locals()``).
    """
    found = frame.f_locals
    copy = dict(found)
    if sys.version_info < (3, 13) and sys.getrefcount(found) <= 3:  # noqa: PLR2004 - the frame's, ours, the call's
        found.clear()
    return copy


class Given(dict[str, torch.Tensor]):
    """Names that the caller chose, whatever they look like: they count before those of variables and modules."""


class Names:
    """The names of tensors and modules, by ``id``, valid while the script stands still."""

    def __init__(self, spaces: Iterable[dict[str, Any]]) -> None:
        self.tensors: dict[int, str] = {}
        self.modules: dict[int, str] = {}
        self.with_graph: list[tuple[torch.Tensor, str]] = []
        self._seen: set[int] = set()
        self._pending_modules: list[tuple[nn.Module, str]] = []
        given: dict[int, str] = {}
        for space in spaces:
            if isinstance(space, Given):
                given.update((id(tensor), name) for name, tensor in space.items())
            else:
                self._search(space)
        self._name_parameters()
        self.tensors.update(given)

    def forget(self) -> None:
        """Let go of the tensors, which must not live longer for having been named."""
        self.with_graph.clear()
        self._pending_modules.clear()

    def _search(self, space: dict[str, Any]) -> None:
        hidden = []
        for name, value in list(space.items()):
            if name.startswith("_"):
                hidden.append((name, value))
            elif name == "Out" and value is space.get("_oh"):
                continue  # a notebook's memory of its results, older than the variables that hold them
            elif name.isidentifier():  # not the iterator of a comprehension, or what pytest adds
                self._visit(name, value, 0)
        for name, value in hidden:
            if isinstance(value, torch.Tensor):
                self._visit(name, value, 0)

    def _visit(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, torch.Tensor):
            self._note(name, value)
        elif isinstance(value, nn.Module):
            self._pending_modules.append((value, name))
        elif depth < _MAX_DEPTH and id(value) not in self._seen:
            for child, item in _items(name, value):
                self._seen.add(id(value))
                self._visit(child, item, depth + 1)

    def _note(self, name: str, tensor: torch.Tensor) -> None:
        if id(tensor) not in self.tensors:
            self.tensors[id(tensor)] = name
            self.with_graph.append((tensor, name))

    def _name_parameters(self) -> None:
        inner = {id(part) for module, _ in self._pending_modules for part in module.modules() if part is not module}
        for module, name in self._pending_modules:
            if id(module) in inner or id(module) in self.modules:
                continue
            self.modules[id(module)] = name
            for path, tensor in (*module.named_parameters(), *module.named_buffers()):
                self.tensors[id(tensor)] = f"{name}.{path.replace('_orig_mod.', '')}"  # torch.compile's wrapper


class KnownNames:
    """The names of leaves, remembered from pass to pass."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}

    def learn(self, tensors: Iterable[torch.Tensor], find: Callable[[], Names]) -> None:
        """Find the names of those tensors that are new."""
        new = [tensor for tensor in tensors if self.name(tensor) is None]
        if new:
            names = find()
            if len(self._known) > _MANY:
                self._known.clear()
            for tensor in new:
                self._known[id(tensor)] = (weakref.ref(tensor), names.tensors.get(id(tensor), ""))

    def name(self, tensor: torch.Tensor) -> str | None:
        """Return the name of a tensor, or None if it was not learnt."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None


def _items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a container or a plain object of the user's holds, each with the expression that reaches it."""
    kind = type(value)
    if kind is dict:
        if len(value) <= _MAX_ITEMS:
            yield from ((f"{name}[{key!r}]", item) for key, item in list(value.items()) if isinstance(key, (str, int)))
    elif kind in {list, tuple}:
        if len(value) <= _MAX_ITEMS:
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))
    elif kind.__module__.partition(".")[0] not in _FOREIGN and not isinstance(value, type):
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict:
            yield from ((f"{name}.{key}", item) for key, item in list(attributes.items()))


# Their objects are not the user's containers, and some compute on attribute access.
_FOREIGN = {"torch", "numpy", "builtins", "gradtrace", "IPython", "ipykernel", *sys.stdlib_module_names} - {"__main__"}
