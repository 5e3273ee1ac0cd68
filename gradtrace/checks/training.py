"""Training loops: parameters that nothing trains, clipping at the wrong place, steps that change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.model import Finding
from gradtrace.ops import op_name
from gradtrace.wording.nodes import as_tuple, first_few, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Node, Source, Trace

__all__ = ["TrainedByNobody", "clip_misplaced", "step_without_effect"]

REGISTER = (
    "register the layers: an nn.ModuleList in place of a plain list, an attribute set in __init__ in place of a layer "
    "made in forward(), nn.Parameter(x.to(device)) in place of nn.Parameter(x).to(device)"
)
REMAKE = "make the optimizer after the last change of the model, or tell it: opt.add_param_group({'params': ...})"
FREEZE = "if that is meant, requires_grad_(False) saves their gradients; else give them to the optimizer"
COPIES = {"ToCopy", "Clone"}


class _Untrained(NamedTuple):
    """Parameters of one model that are in no optimizer: their names, or shapes, and where they were used."""

    names: dict[str, None]
    shapes: dict[tuple[int, ...], None]
    source: Source | None
    passes: dict[int, None]


@check("trained-by-nobody", along=True)
class TrainedByNobody:
    """Parameters that get gradients and are in no optimizer, while others of the same model are.

    A model of which nothing is in an optimizer is a fixed one, or the other one of a GAN.
    """

    def __init__(self, _: Thresholds) -> None:
        self._found: dict[str, _Untrained] = {}

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Follow the parameters; what the optimizers hold besides is known at the end."""
        alone = {node for fact in graph.facts if fact.kind == "untrained" for node in fact.nodes}
        if alone:
            roots = {leaf.id: _roots(graph, leaf) for leaf in graph.nodes if leaf.kind == "leaf"}
            trained = {root for leaf, found in roots.items() if leaf not in alone for root in found if root}
            for leaf in (node for node in graph.nodes if node.id in alone and node.kind == "leaf"):
                shared = sorted(roots[leaf.id] & trained)
                if shared or _is_copied(graph, leaf):
                    self._add(graph, leaf, next(iter(shared), ""))
        yield from ()

    def _add(self, graph: BackwardPass, leaf: Node, root: str) -> None:
        users = [graph.by_id[edge.source] for edge in graph.edges_into[leaf.id]]
        source = next((node.source or node.library for node in users), graph.call)
        known = self._found.setdefault(root, _Untrained({}, {}, source, {}))
        known.passes[graph.index] = None
        if leaf.name:
            known.names[leaf.name] = None
        elif leaf.values and leaf.values[0] is not None:
            known.shapes[leaf.values[0].shape] = None

    def found(self, trace: Trace) -> Iterator[Finding]:
        """Yield a finding for each model."""
        replaced = next((fact for fact in trace.facts if fact.kind == "unreached" and fact.data.get("replaced")), None)
        yield from (_told(found, replaced) for found in self._found.values())


def _told(found: _Untrained, replaced: Fact | None) -> Finding:
    registered = all("[" not in name for name in found.names) and not found.shapes
    shapes = ", ".join(map(as_tuple, found.shapes))
    unnamed = f"parameters without a name, of shape {shapes}, used in {quoted(found.source)}," if shapes else ""
    told = " and ".join(filter(None, (first_few(found.names), unnamed)))
    told += " get a gradient in each pass and are in no optimizer: no step changes them"
    first, count = next(iter(found.passes)), len(found.passes)
    if replaced is not None:
        old = [as_tuple(shape) for shape in _list(replaced.data["names"])]
        told += f". The optimizer holds tensors that nothing uses, {' and '.join(old)}: perhaps what they replaced"
    elif registered:
        return Finding("trained-by-nobody", "info", told, FREEZE, (), found.source, first, count)
    hint = REGISTER if replaced is None else REMAKE
    return Finding("trained-by-nobody", "warning", told, hint, (), found.source, first, count)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _roots(graph: BackwardPass, leaf: Node) -> set[str]:
    """Return the variables of the models that a leaf belongs to: by its name, else by the modules that used it."""
    if leaf.name:
        return {leaf.name.partition(".")[0].partition("[")[0]}
    users = [graph.by_id[edge.source] for edge in graph.edges_into[leaf.id]]
    return {node.module.partition(".")[0] for node in users if node.module}


def _is_copied(graph: BackwardPass, leaf: Node) -> bool:
    """Tell whether a parameter without a name is only what ``.to()`` copied: its copy is no leaf."""
    users = [graph.by_id[edge.source] for edge in graph.edges_into[leaf.id]]
    return not leaf.name and bool(users) and all(op_name(node.op) in COPIES for node in users)


CLIPS = {
    "before": "runs before backward(): there is no new gradient yet that it could clip",
    "after": "runs after step(): no step ever uses what it has clipped",
    "scaled": "clips gradients that a GradScaler has still scaled up: the limit means something else in each step",
}
PLACE = "the order is backward(), clip, step(), zero_grad()"
UNSCALE = "call scaler.unscale_(optimizer) before: scale, backward, unscale_, clip, scaler.step, scaler.update"


@check("clip-misplaced", whole=True)
def clip_misplaced(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Clipping of gradients before backward(), after step(), or while a GradScaler still scales them."""
    for fact in trace.facts:
        if fact.kind == "clip-misplaced":
            how, times = str(fact.data["how"]), int(str(fact.data["times"]))
            hint = UNSCALE if how == "scaled" else PLACE
            told = f"{quoted(fact.source)} {CLIPS.get(how, 'clips nothing')} ({times:,} times)"
            yield Finding("clip-misplaced", "warning", told, hint, (), fact.source)


NO_EFFECT = {
    "zeroed": "used no gradient: it was zeroed between backward() and the step",
    "without rate": "had a learning rate of 0 from the first time to the last",
    "resolution": "changed nothing, though there was a gradient: the update is below the resolution of the parameter's "
    "half-precision type (in bfloat16 the next number after 100 is 100.5)",
}
EFFECT = {
    "zeroed": PLACE,
    "without rate": "set lr, or look at what the scheduler makes of it",
    "resolution": "keep master weights in float32 (autocast does), round stochastically, or raise the learning rate",
}


@check("step-without-effect", whole=True)
def step_without_effect(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Steps of an optimizer that change nothing: gradients zeroed before, no learning rate, updates rounded off."""
    for fact in trace.facts:
        if fact.kind == "no-effect":
            how, times = str(fact.data["how"]), int(str(fact.data["times"]))
            names = first_few(str(name) or "an unnamed one" for name in _list(fact.data["names"]))
            told = f"the step in {quoted(fact.source)} {NO_EFFECT.get(how, 'changed nothing')} ({times:,} times)"
            told += f". That is so for {names}" if names else ""
            yield Finding("step-without-effect", "warning", told, EFFECT.get(how, PLACE), (), fact.source)
