"""Names that the script gave to its tensors and modules, found in the frames that call backward.

Outer frames come first; within a frame, the order of binding. A parameter is named by its path from the outermost
module in reach.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from gradtrace.recording.user_code.frames import user_frames
from gradtrace.recording.user_code.module_tree import named_modules, named_tensors
from gradtrace.recording.user_code.pipeline_names import PIPELINES, exchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

__all__ = ["Given", "KnownNames", "ModulePaths", "Names", "namespaces"]

# Longer lists give their tensors no useful names, and searching them is slow.
_MAX_ITEMS = 200
_MAX_DEPTH = 3
_MANY = 10_000


def namespaces(frame: FrameType | None) -> Iterator[dict[str, Any]]:
    """Yield the variables of the user's frames from the outermost inwards, then the modules that define them."""
    seen = set()
    for found in user_frames(frame):
        if id(found.f_globals) not in seen:
            seen.add(id(found.f_globals))
            yield found.f_globals
        if found.f_locals is not found.f_globals:
            yield _locals(found)
    if frame is not None and PIPELINES in sys.modules:
        yield Given(exchanged(frame, _locals))


def _locals(frame: FrameType) -> dict[str, Any]:
    """Return a copy of a function's variables that does not extend their lifetime.

    Before Python 3.13 the frame stores the dictionary returned by ``f_locals``, which keeps every tensor in it alive
    until the function returns. It is emptied, unless the script itself holds it (by ``locals()``).
    """
    found = frame.f_locals
    copy = dict(found)
    if sys.version_info < (3, 13) and sys.getrefcount(found) <= 3:  # noqa: PLR2004 - the frame's, ours, the call's
        found.clear()
    return copy


# Tensors of modules by id: a weak reference, the name, the module that holds it, the parts of the path there.
Parameters = dict[int, tuple["weakref.ref[torch.Tensor]", str, "weakref.ref[nn.Module]", list[str]]]


# Ids of modules, with their names.
Roots = tuple[tuple[int, str], ...]


class _Walked(NamedTuple):
    """A module, its submodules by id with their paths, and its tensors with theirs."""

    module: weakref.ref[nn.Module]
    inner: dict[int, str]
    tensors: list[tuple[int, weakref.ref[torch.Tensor], str]]


class Given(dict[str, torch.Tensor | nn.Module]):
    """Names chosen by the caller, of any form; they precede those of variables and modules.

    A submodule or parameter is named by its path alone if the name of the module is empty.
    """


class Names:
    """Names of tensors and modules, by ``id``, valid while the script is paused.

    Args:
        spaces: variables, the outermost first.
        paths: module paths remembered from pass to pass.
        shards: the parameters of modules, by the id of the leaf that stands for them in the graph.
    """

    def __init__(
        self,
        spaces: Iterable[dict[str, Any]],
        paths: ModulePaths | None = None,
        shards: dict[int, torch.Tensor] | None = None,
    ) -> None:
        self.variables: dict[int, str] = {}
        self.with_graph: list[tuple[torch.Tensor, str]] = []
        self._paths = paths or ModulePaths()
        self._shards = shards or {}
        self._given: dict[int, str] = {}
        self._seen: set[int] = set()
        self._found_modules: list[tuple[nn.Module, str]] = []
        self._given_modules: list[tuple[nn.Module, str]] = []
        for space in spaces:
            if isinstance(space, Given):
                self._take(space)
            else:
                self._search(space)
        self._find_paths()

    def name(self, tensor: torch.Tensor) -> str:
        """Return the name of a tensor: the caller's, its path in a module, or its variable."""
        key = id(tensor)
        if key in self._given:
            return self._given[key]
        found = self.parameters.get(key)
        if found is not None and found[0]() is tensor:
            return found[1]
        shard = self._shards.get(key)
        return self.variables.get(key, "") if shard is None or shard is tensor else self.name(shard)

    def parameter(self, leaf: torch.Tensor) -> torch.Tensor:
        """Return the script's parameter that a leaf of the graph is, or stands for."""
        return self._shards.get(id(leaf), leaf)

    def look_again(self, tensors: Iterable[torch.Tensor]) -> None:
        """Walk through the modules again if one of these tensors has no name, or was moved without notice."""
        found = self._found_modules or self._given_modules
        if found and not all(self.name(tensor) and self._is_there(tensor) for tensor in tensors):
            self._paths.forget()
            self._find_paths()

    def _find_paths(self) -> None:
        roots = self._paths.roots(self._found_modules, self._given_modules)
        self.modules = self._paths.modules(roots)
        self.parameters = self._paths.parameters(roots)

    def _is_there(self, tensor: torch.Tensor) -> bool:
        """Tell whether a tensor is still where its module path says."""
        found = self.parameters.get(id(tensor))
        if found is None or found[0]() is not tensor:
            return True
        *path, last = found[3]
        module = found[2]()
        for part in path:
            module = module._modules[part] if module is not None and part in module._modules else None
        # Those of a ScriptModule have no get().
        tensors = () if module is None else (module._parameters, module._buffers)
        return any(last in named and named[last] is tensor for named in tensors)

    def by_id(self) -> dict[int, str]:
        """Return the names of all tensors."""
        return {**self.variables, **{key: found[1] for key, found in self.parameters.items()}, **self._given}

    def forget(self) -> None:
        """Drop the tensors: naming must not extend their lifetime."""
        self.with_graph.clear()
        self._found_modules.clear()
        self._given_modules.clear()

    def _take(self, given: Given) -> None:
        for name, value in given.items():
            if isinstance(value, nn.Module):
                self._given_modules.append((value, name))
            else:
                self._given[id(value)] = name

    def _search(self, space: dict[str, Any]) -> None:
        hidden, known = [], self.variables
        # A filter by type first: most values are of types known to hold no tensor.
        for name, value in [item for item in list(space.items()) if type(item[1]) not in _opaque]:
            if name.startswith("_"):
                hidden.append((name, value))
            elif name == "Out" and value is space.get("_oh"):
                continue  # a notebook's history of results (``Out``), older than the variables that hold them
            elif name.isidentifier():  # excludes names that comprehensions and pytest generate
                # No function call for a plain tensor: all variables are examined at each pass.
                if type(value) is not torch.Tensor:
                    self._visit(name, value, 0)
                elif id(value) not in known:
                    known[id(value)] = name
                    if value.requires_grad:
                        self.with_graph.append((value, name))
        for name, value in hidden:
            if issubclass(type(value), torch.Tensor):
                self._visit(name, value, 0)

    def _visit(self, name: str, value: Any, depth: int) -> None:
        kind = type(value)
        if kind in _opaque:
            return
        if issubclass(kind, torch.Tensor):  # isinstance() would ask the object for its __class__
            self._note(name, value)
        elif issubclass(kind, nn.Module):
            self._found_modules.append((value, name))
        elif depth < _MAX_DEPTH and id(value) not in self._seen:
            found = _items(name, value)
            if found:
                self._seen.add(id(value))
            for child, item in found:
                self._visit(child, item, depth + 1)

    def _note(self, name: str, tensor: torch.Tensor) -> None:
        if id(tensor) not in self.variables:
            self.variables[id(tensor)] = name
            self.with_graph.append((tensor, name))


class KnownNames:
    """Names of leaves, remembered from pass to pass."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], str]] = {}

    def learn(self, tensors: Iterable[torch.Tensor], find: Callable[[], Names]) -> None:
        """Find the names of those tensors that are new."""
        new = [tensor for tensor in tensors if self.name(tensor) is None]
        if new:
            names = find()
            names.look_again(new)
            if len(self._known) > _MANY:
                self._known.clear()
            for tensor in new:
                self._known[id(tensor)] = (weakref.ref(tensor), names.name(tensor))

    def name(self, tensor: torch.Tensor) -> str | None:
        """Return the name of a tensor, or None if it was not learnt."""
        known = self._known.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None


class ModulePaths:
    """Paths of modules and their tensors, cached until ``forget`` is called on each registration."""

    def __init__(self) -> None:
        self._walked: dict[int, _Walked] = {}
        self._forget_merged()

    def forget(self, *_: Any) -> None:
        """Clear the cache."""
        if self._walked:
            self._walked = {}
            self._forget_merged()

    def _forget_merged(self) -> None:
        self._roots: tuple[Roots, Roots, Roots] = ((), (), ())
        self._merged: tuple[Roots, Parameters] = ((), {})
        self._named: tuple[Roots, dict[int, str]] = ((), {})

    def name(self, tensor: torch.Tensor) -> str:
        """Return the name of a tensor that was found in a module, or an empty string."""
        found = self._merged[1].get(id(tensor))
        return found[1] if found is not None and found[0]() is tensor else ""

    def roots(self, modules: list[tuple[nn.Module, str]], given: Sequence[tuple[nn.Module, str]] = ()) -> Roots:
        """Return the ids and names of those modules that are no part of another one, and last of those ``given``."""
        walks = [self._walk(module) for module, _ in modules]
        for module, _ in given:
            self._walk(module)
        asked = tuple([(id(module), name) for module, name in modules])
        chosen = tuple([(id(module), name) for module, name in given])
        if (asked, chosen) != self._roots[:2]:
            self._roots = asked, chosen, _outermost(asked, dict(chosen), walks)
        return self._roots[2]

    def _walk(self, module: nn.Module) -> _Walked:
        found = self._walked.get(id(module))
        if found is None or found.module() is not module:
            found = self._walked[id(module)] = _walked(module)
            self._forget_merged()
        return found

    def modules(self, roots: Roots) -> dict[int, str]:
        """Return the names of these modules and of those in them, by id."""
        if roots != self._named[0]:
            named: dict[int, str] = {}
            for root, name in roots:
                named |= {key: _joined(name, path) for key, path in self._walked[root].inner.items()}
                named[root] = name
            self._named = roots, named
        return self._named[1]

    def parameters(self, roots: Roots) -> Parameters:
        """Return the tensors of these modules, by id, with the names that they have from them."""
        if roots != self._merged[0]:
            merged: Parameters = {}
            for root, name in roots:
                module, _, tensors = self._walked[root]
                merged |= {at: (ref, _joined(name, path), module, path.split(".")) for at, ref, path in tensors}
            self._merged = roots, merged
        return self._merged[1]


def _outermost(asked: Roots, chosen: dict[int, str], walks: list[_Walked]) -> Roots:
    """Return those asked for that are in no other one, by their first names, and then those chosen."""
    inner: set[int] = set().union(*(walk.inner for walk in walks))
    named = dict(reversed(asked))
    found = [(key, named[key]) for key in dict.fromkeys(key for key, _ in asked)]
    return (*(root for root in found if root[0] not in inner and root[0] not in chosen), *chosen.items())


def _joined(name: str, path: str) -> str:
    """Return the name of what is in a module, without that of torch.compile's wrapper."""
    path = path.replace("_orig_mod.", "")
    return f"{name}.{path}" if name else path


def _walked(module: nn.Module) -> _Walked:
    inner = {id(part): path for path, part in named_modules(module) if path}
    named = [*named_tensors(module)]
    return _Walked(weakref.ref(module), inner, [(id(tensor), weakref.ref(tensor), path) for path, tensor in named])


def _items(name: str, value: Any) -> Sequence[tuple[str, Any]]:
    """Return the items of a user's container or plain object that may hold a tensor, each with its expression."""
    kind = type(value)
    if kind is dict:
        if len(value) > _MAX_ITEMS:
            return ()
        items = [item for item in list(value.items()) if type(item[1]) not in _opaque]
        return [(f"{name}[{key!r}]", item) for key, item in items if type(key) in _KEYS]
    if kind is list or kind is tuple:
        if len(value) > _MAX_ITEMS:
            return ()
        return [(f"{name}[{index}]", item) for index, item in enumerate(value) if type(item) not in _opaque]
    if str(kind.__module__).partition(".")[0] in _FOREIGN:
        _opaque.add(kind)
    elif not isinstance(value, type):
        attributes = _attributes(value)
        if type(attributes) is dict:
            items = [item for item in list(attributes.items()) if type(item[1]) not in _opaque]
            return [(f"{name}.{key}", item) for key, item in items]
    return ()


def _attributes(value: Any) -> Any:
    """Return the attributes of an object without calling ``__getattribute__`` of its class."""
    try:
        return object.__getattribute__(value, "__dict__")
    except Exception:  # noqa: BLE001 - it has none, or a property of that name, which is the script's
        return None


_KEYS = {str, int}
# Objects of these packages are no containers of the user, and some compute on attribute access.
_FOREIGN = {"torch", "numpy", "builtins", "gradtrace", "IPython", "ipykernel", *sys.stdlib_module_names} - {"__main__"}
# Types of such objects; and weak proxies, whose target has its own name.
_opaque: set[type] = {weakref.ProxyType, weakref.CallableProxyType}
