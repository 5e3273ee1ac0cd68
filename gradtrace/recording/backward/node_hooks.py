"""Hooks on the nodes of one backward pass: gradients that arrive and are sent, order and time of execution."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from threading import RLock, get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from torch.autograd.function import Function, _HookMixin

from gradtrace.recording.autograd.counters import current_task, sequence_number
from gradtrace.recording.backward.post_hook import Event, Gradients, InFlight, PostHook
from gradtrace.recording.backward.raw_pass import HookedRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.autograd.graph import Walk

__all__ = ["NodeHooks"]

_REGISTERING = RLock()
_META: Any = type(Function)


class NodeHooks:
    """Records the runs of the nodes of ``walk`` while its hooks are installed, or of the leaves and roots ``watched``.

    A hook is called at each run of its node, also by nested passes and other threads; the engine's task tells the
    events apart.

    Args:
        walk: the graph.
        watched: positions of its leaves and roots, if only they are of interest.
        on_made: called with the position of a node and the sequence numbers of the nodes that its run made.
        on_broken: called with the position of a node that may have sent non-finite values, the measurements of what
            arrived and of what it sent, and both gradients.
    """

    def __init__(
        self,
        walk: Walk,
        watched: frozenset[int] | None = None,
        *,
        on_made: Callable[[int, int, int], None] | None = None,
        on_broken: Callable[..., None] | None = None,
    ) -> None:
        self._walk = walk
        self._watched = watched
        self._on_made = on_made
        self._events: list[Event] = []
        self._last_leaf: float | None = None
        self._hooked_leaves: set[int] = set()
        self._finished_leaves: set[int] = set()
        self._made_by: set[int] = set()
        self._in_flight: dict[int, InFlight] = {}  # by id
        self._handles: list[Any] = []
        self._hooks: list[dict[Any, Any] | None] = []
        self._leaf_hooks: list[dict[Any, Any]] = []
        self._roots = {position for position, _ in walk.roots}
        self._key = f"gradtrace {id(self)}"  # a string, which makes a smaller dictionary
        self._post_hook = PostHook(self._events, self._in_flight, self._hooks, self._key, self._roots)
        if on_made is not None:
            self._post_hook.on_run = self._note_run
        if on_broken is not None:
            self._post_hook.on_broken = on_broken
        self._number = 0

    def seen(self) -> HookedRun:
        """Return the result of the hooks."""
        hooked, finished = frozenset(self._hooked_leaves), frozenset(self._finished_leaves)
        made_by = frozenset(self._made_by)
        return HookedRun(self._post_hook.task, self._events, hooked, finished, made_by, self._last_leaf)

    def install(self) -> None:
        """Install the hooks."""
        nodes, leaves = self._walk.nodes, set(self._walk.leaves)
        self._hooks += [None] * len(nodes)
        post_hook = self._post_hook
        with _REGISTERING, _Registering(self._key) as registering:
            for position in range(len(nodes)) if self._watched is None else self._watched:
                if position in leaves:
                    self._watch_leaf(position, nodes[position])
                    self._leaf_hooks += registering.found
                elif self._watched is not None:  # a root: only the task is of interest
                    self._keep(nodes[position].register_prehook(self._before_root))
                    self._leaf_hooks += registering.found
                else:
                    self._keep(nodes[position].register_hook(partial(post_hook, position)))
                    self._hooks[position] = registering.found[0] if registering.found else None
                registering.found.clear()
        self._number = sequence_number()
        post_hook.start_clock()

    def uninstall(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        for hooks in (*self._leaf_hooks, *filter(None, self._hooks)):
            hooks.pop(self._key, None)
        self._leaf_hooks.clear()
        self._handles.clear()
        self._in_flight.clear()

    def _watch_leaf(self, position: int, node: Any) -> None:
        """Measure a gradient before the leaf accumulates it; then an optimizer may have zeroed the same memory."""
        self._keep(node.register_prehook(partial(self._before_leaf, position)))
        if node.variable._post_accumulate_grad_hooks:
            # Hooks of the script may raise: then this leaf is the node that failed.
            self._hooked_leaves.add(position)
            self._keep(node.register_hook(lambda *_: self._finished_leaves.add(position)))

    def _keep(self, handle: Any) -> None:
        if handle is not None:  # None in versions of torch without such hooks
            self._handles.append(handle)

    def _before_leaf(self, position: int, arriving: Gradients) -> None:
        grad = arriving[0]
        arrived = None if grad is None else self._post_hook.arrived(grad)
        task = current_task()
        if position in self._roots:
            self._note_task(task)
        self._events.append((task, position, (arrived,), (), None))
        self._last_leaf = perf_counter()
        self._post_hook.start_clock()

    def _before_root(self, _: Gradients) -> None:
        self._note_task(current_task())

    def _note_task(self, task: int) -> None:
        """Note the engine's task of this pass: the first that runs one of its roots."""
        if self._post_hook.task < 0:
            self._post_hook.task = task

    def _note_run(self, position: int) -> None:
        number = sequence_number()
        if self._on_made is not None and number > self._number:
            self._made_by.add(position)
            self._on_made(position, self._number, number)
        self._number = number


class _Registering:
    """Stores the hook of each ``register_hook`` under ``key`` while entered, in a dictionary appended to ``found``.

    A handle for each hook would take twice as long as the rest of the registration, and half a kilobyte. Torch looks
    ``_register_hook`` up on ``Function``, where a property of its metaclass comes first. Python keeps the attributes
    of each class in a cache: a change of ``Function`` itself would drop those of all its subclasses, some 200.
    """

    def __init__(self, key: str) -> None:
        self.found: list[dict[Any, Any]] = []
        self._key = key
        self._thread = get_ident()

    def _register(self, hooks: dict[Any, Any] | None, hook: Any) -> tuple[dict[Any, Any], Any]:
        if get_ident() != self._thread:
            return _HookMixin._register_hook(hooks, hook)  # type: ignore[no-any-return, no-untyped-call]
        if hooks is None:
            hooks = OrderedDict()  # the type torch uses: the script may add hooks
        hooks[self._key] = hook
        self.found.append(hooks)
        return hooks, None

    def __enter__(self) -> Self:
        register = self._register
        _META._register_hook = property(lambda _: register)
        return self

    def __exit__(self, *_: object) -> None:
        del _META._register_hook
