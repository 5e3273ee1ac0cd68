"""Hooks on the nodes of one backward pass: what arrived, what was sent on, in which order, how long it took."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, Self

from torch.autograd.function import _HookMixin

from gradtrace.recording.autograd.counters import current_task, sequence_number
from gradtrace.recording.backward.post_hook import After, Event, Gradients, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.autograd.graph import Walk

__all__ = ["Watch"]

_REGISTERING = RLock()


class Watch:
    """Records the runs of the nodes of ``walk`` while its hooks are there, or of the leaves among those ``watched``.

    A hook sees every run of its node, those in nested passes and other threads included; ``events`` tells
    them apart by the engine's task.
    """

    def __init__(self, walk: Walk, watched: set[int] | None = None) -> None:
        self.walk = walk
        self._watched = watched
        self.events: list[Event] = []
        self.hooked_leaves: set[int] = set()
        self.finished_leaves: set[int] = set()
        # Told of the position of a node and the sequence numbers of the nodes that its run made.
        self.on_made: Callable[[int, int, int], None] | None = None
        # Told of a node that may have sent on what is not finite: its position, what arrived, what it sent, and both
        # gradients.
        self.on_broken: Callable[..., None] | None = None
        self._on_way: dict[int, Way] = {}  # by id
        self._handles: list[Any] = []
        self._hooks: list[dict[Any, Any] | None] = []
        self._leaf_hooks: list[dict[Any, Any]] = []
        self._roots = {position for position, _ in walk.roots}
        self._key = f"gradtrace {id(self)}"  # text, which makes a smaller dictionary
        self._after = After(self.events, self._on_way, self._hooks, self._key, self._roots)
        self._number = 0

    @property
    def task(self) -> int:
        """The engine's task of this pass: the first that runs one of its roots."""
        return self._after.task

    def put(self) -> None:
        """Install the hooks."""
        nodes, leaves = self.walk.nodes, set(self.walk.leaves)
        self._hooks += [None] * len(nodes)
        after = self._after
        if self.on_made is not None:
            after.told = self._tell_made
        if self.on_broken is not None:
            after.broken = self.on_broken
        with _REGISTERING, _Registering(self._key) as registering:
            for position in range(len(nodes)) if self._watched is None else self._watched:
                if position in leaves:
                    self._watch_leaf(position, nodes[position])
                    self._leaf_hooks += registering.found
                elif self._watched is not None:  # a root: all that is asked is the task
                    self._keep(nodes[position].register_prehook(self._before_root))
                    self._leaf_hooks += registering.found
                else:
                    self._keep(nodes[position].register_hook(partial(after, position)))
                    self._hooks[position] = registering.found[0] if registering.found else None
                registering.found.clear()
        self._number = sequence_number()
        after.start()

    def take_away(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        for hooks in (*self._leaf_hooks, *filter(None, self._hooks)):
            hooks.pop(self._key, None)
        self._leaf_hooks.clear()
        self._handles.clear()
        self._on_way.clear()

    def _watch_leaf(self, position: int, node: Any) -> None:
        """Measure before the leaf accumulates: afterwards its optimizer may have zeroed the same memory."""
        self._keep(node.register_prehook(partial(self._before_leaf, position)))
        if node.variable._post_accumulate_grad_hooks:
            # These hooks are the user's and may raise: then this leaf is the node that failed.
            self.hooked_leaves.add(position)
            self._keep(node.register_hook(lambda *_: self.finished_leaves.add(position)))

    def _keep(self, handle: Any) -> None:
        if handle is not None:  # from a torch that does not ask us
            self._handles.append(handle)

    def _before_leaf(self, position: int, arriving: Gradients) -> None:
        grad = arriving[0]
        arrived = None if grad is None else self._after.arrived(grad)
        number = current_task()
        if self.task < 0 and position in self._roots:
            self._after.task = number
        self.events.append((number, position, (arrived,), (), None))
        self._after.start()

    def _before_root(self, _: Gradients) -> None:
        if self.task < 0:
            self._after.task = current_task()

    def _tell_made(self, position: int) -> None:
        number = sequence_number()
        if self.on_made is not None and number > self._number:
            self.on_made(position, self._number, number)
        self._number = number


class _Registering:
    """While entered, ``register_hook`` of a node puts the hook under ``key``, into a dictionary told in ``found``.

    A handle for each hook takes twice as long as all the rest of registering it, and half a kilobyte.
    """

    def __init__(self, key: str) -> None:
        self.found: list[dict[Any, Any]] = []
        self._key = key
        self._thread = get_ident()

    def _register(self, hooks: dict[Any, Any] | None, hook: Any) -> tuple[dict[Any, Any], Any]:
        if get_ident() != self._thread:
            return self._original.__func__(hooks, hook)  # type: ignore[no-any-return]
        if hooks is None:
            hooks = OrderedDict()  # as torch has it: the script may add a hook of its own
        hooks[self._key] = hook
        self.found.append(hooks)
        return hooks, None

    def __enter__(self) -> Self:
        self._original = vars(_HookMixin)["_register_hook"]
        _HookMixin._register_hook = staticmethod(self._register)  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        _HookMixin._register_hook = self._original  # type: ignore[method-assign]
