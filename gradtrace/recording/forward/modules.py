"""Module calls: which call made which node, found by marks on the line of sequence numbers."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from gradtrace.recording.autograd.counters import sequence_number
from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.user_code.module_tree import named_modules

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ModuleCall", "ModuleHooks", "ModuleLog"]


class ModuleCall:
    """Call of a module: the outermost module called, the path from there, and the call around it."""

    __slots__ = ("id", "parent", "path", "paths", "root", "root_id", "root_type", "type")

    def __init__(self, module: nn.Module, parent: ModuleCall | None, path: str) -> None:
        self.type = type(module).__name__
        self.id = id(module)
        self.parent = parent
        self.path = path
        # Paths of all modules in the root, by id, once requested.
        self.paths: dict[int, str] | None = parent.paths if parent else None
        self.root: weakref.ref[nn.Module] = parent.root if parent else weakref.ref(module)
        self.root_type: str = parent.root_type if parent else self.type
        # Names are resolved by id when a pass is made; the module may be gone when they are read.
        self.root_id: int = parent.root_id if parent else id(module)


class ModuleLog:
    """Module calls made by one thread: from each mark on, nodes belong to the call of the mark."""

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._calls: list[ModuleCall | None] = []
        self._open: list[ModuleCall] = []
        self._paths: weakref.WeakKeyDictionary[nn.Module, dict[int, str]] = weakref.WeakKeyDictionary()

    def enter(self, module: nn.Module) -> None:
        """Note that ``module`` is being called."""
        parent = self._open[-1] if self._open else None
        call = ModuleCall(module, parent, self._path(module, parent) if parent else "")
        self._open.append(call)
        self._mark(call)

    def leave(self, module: nn.Module) -> None:
        """Note that the call of ``module`` has ended, and all calls inside it whose end was missed."""
        key, opened = id(module), self._open
        depth = len(opened) - 1  # the innermost in nearly all cases
        while depth >= 0 and opened[depth].id != key:
            depth -= 1
        if depth >= 0:
            del opened[depth:]
            self._mark(opened[-1] if opened else None)

    def call(self, number: int) -> ModuleCall | None:
        """Return the innermost module call in which the node with this sequence number was made."""
        at = bisect_right(self._marks, number) - 1
        return self._calls[at] if at >= 0 else None

    @property
    def is_used(self) -> bool:
        """Whether there was a module call."""
        return bool(self._marks)

    @property
    def depth(self) -> int:
        """Number of nested calls that are running."""
        return len(self._open)

    def close(self) -> None:
        """Note that all calls have ended."""
        self._open.clear()
        self._mark(None)

    def forget(self, before: int) -> None:
        """Drop the marks that only nodes older than ``before`` need."""
        at = max(bisect_right(self._marks, before) - 1, 0)
        del self._marks[:at], self._calls[:at]

    def _mark(self, call: ModuleCall | None) -> None:
        number = sequence_number()
        if self._marks and self._marks[-1] == number:  # no node since the last mark, as under no_grad()
            self._calls[-1] = call
        else:
            self._marks.append(number)
            self._calls.append(call)

    def _path(self, module: nn.Module, parent: ModuleCall) -> str:
        found = parent.paths.get(id(module)) if parent.paths is not None else None
        if found is not None:
            return found
        root = parent.root()
        if root is None:
            return type(module).__name__
        paths = self._paths.get(root)
        if paths is None or id(module) not in paths:
            paths = self._paths[root] = {id(part): name for name, part in named_modules(root)}
        parent.paths = paths
        return paths.get(id(module)) or ".".join(filter(None, (parent.path, type(module).__name__)))


class ModuleHooks:
    """Global hooks that pass each module call to the log of its thread."""

    def __init__(self, log: Callable[[], ModuleLog], *seen: Callable[[nn.Module], None]) -> None:
        self._log = log
        self._seen = seen  # called with each module that is called
        self._handles: list[Any] = []
        # Where a compiled module is called, torch.compile warns of global hooks; ours are excluded.
        question = "_has_any_global_hook"
        asked = hasattr(nn.modules.module, question)  # older versions do not ask
        self._question = [Patch(nn.modules.module, question, self._others_have_hooks)] if asked else []

    def install(self) -> None:
        """Install the hooks."""
        for patch in self._question:
            patch.install()
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def uninstall(self) -> None:
        """Remove the hooks."""
        for patch in self._question:
            patch.uninstall()
        while self._handles:
            self._handles.pop().remove()

    def _others_have_hooks(self) -> bool:
        module: Any = nn.modules.module
        hooks = (
            module._global_backward_pre_hooks,
            module._global_backward_hooks,
            module._global_forward_pre_hooks,
            module._global_forward_hooks,
        )
        return sum(map(len, hooks)) > len(self._handles)

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self._log().enter(module)
        for told in self._seen:
            told(module)

    def _leave(self, module: nn.Module, _args: Any, _result: Any) -> None:
        self._log().leave(module)
