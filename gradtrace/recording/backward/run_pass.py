"""One backward pass, from the call of the engine to what is known of it when the engine returns."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.graph import GradientEdge

from gradtrace.recording.autograd.counters import is_compiled
from gradtrace.recording.autograd.engine_call import EngineCall
from gradtrace.recording.autograd.graph import Walk, root_edge, walk
from gradtrace.recording.backward.compiled_autograd import CompiledBackward
from gradtrace.recording.backward.node_hooks import Watch
from gradtrace.recording.backward.torchviz_dot import torchviz_dot
from gradtrace.recording.isolation.gc_pause import no_collection
from gradtrace.recording.isolation.stack_size import make_room
from gradtrace.recording.stats.measure import kind_of, measure
from gradtrace.recording.user_code.frames import call_place
from gradtrace.recording.user_code.variable_names import Names, namespaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.recording.backward.leaf_grads import Afterwards
    from gradtrace.recording.backward.raw_pass import RawPass
    from gradtrace.recording.user_code.variable_names import KnownNames

__all__ = ["Known", "record_leaves", "record_pass"]


def record_pass(raw: RawPass, call: EngineCall, spaces: Iterable[dict[str, Any]], *, torchviz: bool) -> Any:
    """Run the engine under watch; what it returns and raises is left as it is, ``raw`` tells the rest.

    Tensors are named by the variables in ``spaces``, then by those of the frames that call the engine.
    """
    with no_collection(), torch._C.DisableTorchFunction():
        # A pass that gradtrace made is nobody's call, unless the user called gradtrace.draw().
        raw.place = call_place(call.frame, only_user=raw.kind == "seeded")
        names = Names(chain(spaces, namespaces(call.frame)))
        raw.describe(call.outputs, call.seeds, names)
        graph = _graph(call)
        if graph is not None:
            raw.describe_leaves(graph, lambda tensor: names.tensors.get(id(tensor), ""))
            raw.describe_graph(graph, names)
            if torchviz:
                raw.torchviz = torchviz_dot(*_for_torchviz(raw, call, graph))
        if raw.notes is not None:
            raw.notes.before(raw, call, graph, names)
        names.forget()
    return _run_watched(raw, call, graph, None)


class Known(NamedTuple):
    """What is remembered of leaves from pass to pass."""

    names: KnownNames
    afterwards: Afterwards


def record_leaves(raw: RawPass, call: EngineCall, spaces: Iterable[dict[str, Any]], known: Known) -> Any:
    """Run the engine, asking for the leaves alone; names are looked for only where a leaf is new."""
    with torch._C.DisableTorchFunction():
        graph = _graph(call)
    if graph is None:
        return _run(raw, call)
    with torch._C.DisableTorchFunction():
        leaves = {position: graph.nodes[position].variable for position in graph.leaves}
        known.names.learn(leaves.values(), lambda: Names(chain(spaces, namespaces(call.frame))))
        raw.describe_leaves(graph, known.names.name, kind_of)
        if raw.notes is not None:
            raw.notes.leaves.before(raw, call, graph)
        fresh = {position: leaf for position, leaf in leaves.items() if leaf.grad is None}
    result = _run_watched(raw, call, graph, {*graph.leaves, *(position for position, _ in graph.roots)})
    with torch._C.DisableTorchFunction():
        known.afterwards.learn(raw, fresh)
    return result


def _run_watched(raw: RawPass, call: EngineCall, graph: Walk | None, watched: set[int] | None) -> Any:
    if graph is None:
        return _run(raw, call)
    watch = Watch(graph, watched)
    if call.create_graph and watched is None:
        watch.on_made = raw.note_made
    if raw.notes is not None and watched is None:
        watch.on_broken = partial(raw.notes.broken, raw, graph)
    compiled = CompiledBackward(call, graph) if is_compiled() else None
    try:
        if compiled is None:
            with no_collection():
                watch.put()
        result = _run(raw, call)
    finally:
        watch.take_away()
        raw.close(watch)
        if raw.notes is not None:
            raw.notes.after(raw, call, graph, whole=watched is None)
    with torch._C.DisableTorchFunction():
        if compiled is not None:
            compiled.tell(raw)
        _note_captured(raw, call, graph, result)
        if raw.notes is not None:
            raw.notes.results(raw, call, result)
    return result


def _graph(call: EngineCall) -> Walk | None:
    try:
        graph = walk([root_edge(output) for output in call.outputs])
    except RuntimeError:
        return None  # an output without a graph: the engine says so, in PyTorch's own words
    make_room(len(graph.nodes))
    return graph


def _for_torchviz(raw: RawPass, call: EngineCall, graph: Walk) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    outputs = [output for output in call.outputs if isinstance(output, torch.Tensor)]
    named = {raw.names[position]: graph.nodes[position].variable for position in sorted(raw.leaves)}
    return outputs, {name: tensor for name, tensor in named.items() if name}


def _run(raw: RawPass, call: EngineCall) -> Any:
    try:
        return call()
    except BaseException as error:
        raw.error = type(error).__name__, str(error).strip()
        raise


def _note_captured(raw: RawPass, call: EngineCall, graph: Walk, result: Any) -> None:
    """Note the gradients that the engine returned: the nodes they arrived at were not run."""
    if call.accumulates or not call.inputs:
        return
    positions = {node: position for position, node in enumerate(graph.nodes)}
    leaves = {id(graph.nodes[position].variable): (position, 0) for position in graph.leaves}
    for wanted, gradient in zip(call.inputs, result, strict=True):
        found: tuple[int | None, int]
        if isinstance(wanted, GradientEdge):
            found = positions.get(wanted.node), wanted.output_nr
        elif wanted.grad_fn is not None:
            found = positions.get(wanted.grad_fn), wanted.output_nr
        else:
            found = leaves.get(id(wanted), (None, 0))
        if found[0] is not None:
            raw.captured[found[0], found[1]] = None if gradient is None else measure(gradient)
