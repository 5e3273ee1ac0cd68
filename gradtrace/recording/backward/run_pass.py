"""One backward pass: snapshot of the graph, hooks in, engine, hooks out, RawPass."""

from __future__ import annotations

from functools import partial
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from gradtrace.gc_pause import gc_paused
from gradtrace.recording.autograd.counters import is_compiled
from gradtrace.recording.autograd.engine_call import graph_of
from gradtrace.recording.backward.compiled_autograd import CompiledBackward
from gradtrace.recording.backward.node_hooks import NodeHooks
from gradtrace.recording.backward.raw_pass import GraphSnapshot, HookedRun, RawFact, RawPass
from gradtrace.recording.backward.snapshot import graph_snapshot, leaf_snapshot, place_of, with_torchviz
from gradtrace.recording.forward.call_log import Maker
from gradtrace.recording.isolation.stack_size import raise_stack_limit
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.user_code.exceptions import message_of
from gradtrace.recording.user_code.variable_names import Names, namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.backward.leaf_grads import GradReader
    from gradtrace.recording.backward.observer import PassObserver
    from gradtrace.recording.backward.raw_pass import PassKind
    from gradtrace.recording.distributed.wrappers import Wrappers
    from gradtrace.recording.forward.thread_logs import ThreadLog
    from gradtrace.recording.stats.kinds import Measured
    from gradtrace.recording.user_code.variable_names import KnownNames, ModulePaths

__all__ = ["LeafKnowledge", "PassContext", "record_leaves", "record_pass"]


class PassContext(NamedTuple):
    """Context of a pass.

    Attributes:
        pass_index: from 1, in order of call.
        kind: how the engine was called.
        log: calls and module calls of the thread that calls the engine.
        spaces: variables to name tensors by, before those of the frames that call the engine.
        torchviz: whether torchviz is to draw the pass, too.
        observer: collects the facts for the checks.
        wrappers: DDP and FSDP2 modules, which replace leaves or reduce their gradients.
        rank: of this process; None if there are no others.
        step: number of optimizer steps before the pass.
        paths: module paths remembered from pass to pass.
    """

    pass_index: int
    kind: PassKind
    log: ThreadLog
    spaces: tuple[dict[str, Any], ...] = ()
    torchviz: bool = False
    observer: PassObserver | None = None
    wrappers: Wrappers | None = None
    rank: int | None = None
    step: int = 0
    paths: ModulePaths | None = None


class LeafKnowledge(NamedTuple):
    """Knowledge of leaves that is kept from pass to pass."""

    names: KnownNames
    grads: GradReader


class _Subject(NamedTuple):
    """Pass about to run."""

    context: PassContext
    call: EngineCall
    snapshot: GraphSnapshot
    graph: Walk | None
    watched: frozenset[int] | None  # positions, None for all
    with_gradient: tuple[int, ...] = ()  # positions of leaves that have one before the pass


def record_pass(call: EngineCall, context: PassContext, done: Callable[[RawPass], None]) -> Any:
    """Run the engine under hooks and hand the RawPass to ``done``; return or raise what the engine does."""
    with gc_paused(), torch._C.DisableTorchFunction():
        names = _names(call, context)
        graph = _graph(call)
        place = place_of(call, seeded=context.kind == "seeded")
        snapshot = graph_snapshot(call, graph, names, place)
        if context.torchviz and graph is not None:
            snapshot = with_torchviz(snapshot, call, graph)
        if context.observer is not None:
            context.observer.before(snapshot, call, graph, names)
        names.forget()
        subject = _Subject(context, call, snapshot, graph, None, _with_gradient(call, graph))
    return _run(subject, done)


def record_leaves(call: EngineCall, context: PassContext, known: LeafKnowledge, done: Callable[[RawPass], None]) -> Any:
    """Run the engine and record the leaves only; names are looked up only where a leaf is new."""
    with torch._C.DisableTorchFunction():
        graph = _graph(call)
        if graph is None:
            return _run(_Subject(context, call, GraphSnapshot(), None, None), done)
        leaves = {position: graph.nodes[position].variable for position in graph.leaves}
        known.names.learn(leaves.values(), lambda: _names(call, context))
        snapshot = leaf_snapshot(graph, known.names.name)
        if context.observer is not None:
            context.observer.before_leaves(context.pass_index, call, graph)
        fresh = {position: leaf for position, leaf in leaves.items() if leaf.grad is None}
    watched = frozenset({*graph.leaves, *(position for position, _ in graph.roots)})

    def learn_and_finish(raw: RawPass) -> None:
        if raw.error is None:
            with torch._C.DisableTorchFunction():
                known.grads.learn(raw.leaf_gradients(), snapshot.names, fresh)
        done(raw)

    return _run(_Subject(context, call, snapshot, graph, watched), learn_and_finish)


def _with_gradient(call: EngineCall, graph: Walk | None) -> tuple[int, ...]:
    """Return the positions of leaves whose ``.grad`` the pass will add to."""
    if graph is None or not call.accumulates:
        return ()
    return tuple(position for position in graph.leaves if graph.nodes[position].variable.grad is not None)


def _names(call: EngineCall, context: PassContext) -> Names:
    shards = context.wrappers.shards() if context.wrappers is not None else {}
    return Names(chain(context.spaces, namespaces(call.frame)), context.paths, shards)


def _graph(call: EngineCall) -> Walk | None:
    graph = graph_of(call)  # None leaves the error message to the engine
    if graph is not None:
        raise_stack_limit(len(graph.nodes))
    return graph


def _run(subject: _Subject, done: Callable[[RawPass], None]) -> Any:
    context, call, graph = subject.context, subject.call, subject.graph
    hooks = None if graph is None else _hooks(subject, graph)
    compiled = CompiledBackward(call, graph) if graph is not None and is_compiled() else None
    error: tuple[str, str] | None = None
    result = None
    start = 0.0
    try:
        if hooks is not None and compiled is None:
            with gc_paused(), torch._C.DisableTorchFunction():
                hooks.install()
        start = perf_counter()
        try:
            result = call()
        except BaseException as raised:
            error = type(raised).__name__, message_of(raised)
            raise
        return result
    finally:
        seconds = start, perf_counter()
        if hooks is not None:
            hooks.uninstall()
        run = HookedRun() if hooks is None else hooks.seen()
        raw = RawPass(
            context.pass_index, context.kind, context.log, subject.snapshot, run, {}, error,
            rank=context.rank, step=context.step, seconds=seconds,
        )  # fmt: skip
        done(_completed(raw, subject, compiled, result))


def _hooks(subject: _Subject, graph: Walk) -> NodeHooks:
    context, whole = subject.context, subject.watched is None
    observer = context.observer if whole else None
    makes = subject.call.create_graph and whole
    return NodeHooks(
        graph,
        subject.watched,
        on_made=partial(_note_made, context, subject.snapshot) if makes else None,
        on_broken=partial(observer.broken, graph) if observer is not None else None,
    )


def _note_made(context: PassContext, snapshot: GraphSnapshot, position: int, start: int, end: int) -> None:
    """Note that the run of a node made the nodes with these sequence numbers."""
    maker = Maker(context.pass_index, position, snapshot.ops[position], snapshot.numbers[position])
    context.log.calls.add_made(start, end, maker)


def _completed(raw: RawPass, subject: _Subject, compiled: CompiledBackward | None, result: Any) -> RawPass:
    """Return the pass with what is known after the engine has returned or raised."""
    context, graph, call = subject.context, subject.graph, subject.call
    observer = context.observer
    if observer is not None:
        raw = raw._replace(facts=observer.after(raw, call, graph, whole=subject.watched is None))
    if graph is None or raw.error is not None:
        return raw
    with torch._C.DisableTorchFunction():
        captured = {} if compiled is None else compiled.gradients()
        found: dict[str, Any] = {"captured": captured | _captured(call, graph, result)}
        if context.wrappers is not None and context.wrappers.is_used and call.accumulates:
            found["reduced"], groups = _reduced(context.wrappers, graph)
            joined = (RawFact("joined"),) if context.wrappers.joins else ()
            found["facts"] = (*raw.facts, *groups, *joined)
        found["accumulated"] = _accumulated(subject.with_gradient, graph)
        raw = raw._replace(**found)
        if observer is not None:
            observer.returned(raw, call, result)
    return raw


def _accumulated(positions: Iterable[int], graph: Walk) -> dict[int, Measured]:
    """Return the current ``.grad`` of these leaves, except where an optimizer in backward has taken it."""
    grads = {position: graph.nodes[position].variable.grad for position in positions}
    return {position: measure(grad) for position, grad in grads.items() if grad is not None}


def _reduced(wrappers: Wrappers, graph: Walk) -> tuple[dict[int, Measured], list[RawFact]]:
    """Return what the processes made of the gradients of leaves, by position, and which processes if not all."""
    found = [*wrappers.reduced(graph.nodes[position].variable for position in graph.leaves)]
    positions = {id(graph.nodes[position].variable): position for position in graph.leaves} if found else {}
    groups: dict[tuple[int, ...], list[int]] = {}
    for leaf, _, group in found:
        if group:
            groups.setdefault(group, []).append(positions[id(leaf)])
    facts = [RawFact("group", tuple(among), data={"ranks": [*ranks]}) for ranks, among in groups.items()]
    return {positions[id(leaf)]: measure(grad) for leaf, grad, _ in found}, facts


def _captured(call: EngineCall, graph: Walk, result: Any) -> dict[tuple[int, int], Measured | None]:
    """Return the gradients that the engine returned, by node and output: these nodes did not run."""
    if call.accumulates or not call.inputs:
        return {}
    positions = {node: position for position, node in enumerate(graph.nodes)}
    leaves = {id(graph.nodes[position].variable): (position, 0) for position in graph.leaves}
    captured: dict[tuple[int, int], Measured | None] = {}
    for wanted, gradient in zip(call.inputs, result, strict=True):
        at: tuple[int | None, int]
        if isinstance(wanted, GradientEdge):
            at = positions.get(wanted.node), wanted.output_nr
        elif wanted.grad_fn is not None:
            at = positions.get(wanted.grad_fn), wanted.output_nr
        else:
            at = leaves.get(id(wanted), (None, 0))
        if at[0] is not None:
            captured[at[0], at[1]] = None if gradient is None else measure(gradient)
    return captured
