"""Leaves whose gradient is exactly zero, and the flat op in which it died."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.stats_queries import is_broken, is_zero
from gradtrace.graph import topological
from gradtrace.model import Finding
from gradtrace.ops import op_name, op_of
from gradtrace.wording.nodes import described, first_few

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Edge, Node, Trace

__all__ = ["ZeroGradient"]

LINEAR = {"Addmm", "Mm", "Addmv", "Mv", "Bmm", "Convolution", "NativeBatchNorm", "NativeLayerNorm"}
SOFTMAX = {"Softmax": "1", "LogSoftmax": "0"}  # and their constant value over one class
CLASSES = "give the head an output for each class, or one logit and binary_cross_entropy_with_logits"
REMEDY = "check the range of its input, or take something that has a slope there"


class _Life:
    """A leaf: passes with a nonzero gradient, passes with a zero one since, and the place where it died."""

    __slots__ = ("alive", "dead", "death")

    def __init__(self) -> None:
        self.alive = self.dead = 0
        self.death: _Death | None = None

    @property
    def is_dead(self) -> bool:
        """Tell whether the gradient was zero at the end: in all passes, or in most of them and more than once."""
        return self.death is not None and self.dead > 0 and (not self.alive or self.dead > max(self.alive, 1))


@check("zero-gradient", along=True)
class ZeroGradient:
    """A leaf whose gradient was exactly zero in every pass, or from some pass on, and the op where it died.

    Only an op that is flat where it was used is to blame. A product with zeros is not: the zeros may be a
    state's first value, or the half of LoRA that starts at zero. Nor is a hinge that is satisfied: a loss that is
    exactly zero is told only where a layer's own activation let nothing through, or where there is one class.
    """

    def __init__(self, _: Thresholds) -> None:
        self._lives: dict[object, _Life] = {}

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Track the leaves; findings come at the end."""
        leaves = [node for node in graph.nodes if node.kind == "leaf"]
        for leaf in leaves:
            if leaf.name and _is_alive(leaf):
                life = self._lives.setdefault(leaf.name, _Life())
                life.alive, life.dead, life.death = life.alive + life.dead + 1, 0, None
        dead = [leaf for leaf in leaves if any(map(is_zero, leaf.grads)) and not _is_alive(leaf)]
        if dead and graph.error is None and _is_sound(graph):
            nothing = all(is_zero(value) for node in graph.nodes if node.kind == "output" for value in node.values)
            for leaf, death in _deaths(graph, dead):
                if nothing and not _is_of_layer(graph, death.killer):
                    continue
                # A leaf without a name can't be tracked; its key is the place where it died.
                life = self._lives.setdefault(leaf.name or _place_of(death), _Life())
                life.death = life.death or death
                life.dead += 1
        yield from ()

    def found(self, _: Trace) -> Iterator[Finding]:
        """Yield a finding for each op in which leaves died."""
        branches: dict[object, list[_Life]] = {}
        for life in self._lives.values():
            if life.death is not None and life.is_dead:
                branches.setdefault(_place_of(life.death), []).append(life)
        yield from (_death_told(lives) for lives in branches.values())


def _is_alive(node: Node) -> bool:
    return any(grad is not None and not is_zero(grad) for grad in node.grads)


def _is_sound(graph: BackwardPass) -> bool:
    """Tell whether the pass has a loss, and the loss and the gradients are finite."""
    outputs = [node for node in graph.nodes if node.kind == "output"]
    if any(
        is_broken(stats) for node in graph.nodes for stats in (*node.grads, *node.values) if node.kind != "function"
    ):
        return False
    return any(grad is not None and not is_zero(grad) for node in outputs for grad in node.grads)


def _is_of_layer(graph: BackwardPass, node: Node) -> bool:
    """Tell whether an op takes a layer's output as it is: a hinge takes its difference from a margin."""
    below = [op_name(graph.by_id[edge.target].op) for edge in graph.edges_from[node.id]]
    return any(op in LINEAR for op in below) or _classes(graph, node) == 1


def _classes(graph: BackwardPass, node: Node) -> int:
    """Return the number of classes of a softmax; 0 for other ops."""
    dim, sent = node.attributes.get("dim"), [e.grad for e in graph.edges_from[node.id] if e.grad is not None]
    if op_name(node.op) not in SOFTMAX or not isinstance(dim, int) or not sent or not sent[0].shape:
        return 0
    return sent[0].shape[dim] if -len(sent[0].shape) <= dim < len(sent[0].shape) else 0


class _Death(NamedTuple):
    """Death of a gradient: the op and its pass, the leaf that got zeros, and why."""

    killer: Node
    pass_index: int
    leaf: Node
    reason: str


def _deaths(graph: BackwardPass, leaves: list[Node]) -> Iterator[tuple[Node, _Death]]:
    """Yield the dead leaves, each with the first op on the path to it that sent only zeros."""
    order = topological(graph)
    for leaf in leaves:
        above = _above(graph, leaf)
        killer = next((node for node in order if node.id in above and _kills(graph, node, above)), None)
        reason = _why(graph, killer) if killer is not None else ""
        if killer is not None and reason:
            yield leaf, _Death(killer, graph.index, leaf, reason)


def _why(graph: BackwardPass, killer: Node) -> str:
    """Return why an op sent only zeros; nothing if it is not the cause."""
    if _classes(graph, killer) == 1:
        name = op_name(killer.op)
        return f"a softmax over one class, which is always {SOFTMAX[name]}, whatever its input"
    if op_name(killer.op) == "Relu" and killer.values[0] is not None and not is_zero(killer.values[0]):
        return "where its input was positive the gradient that arrived was 0, and elsewhere its derivative is"
    return op_of(killer.op).flat or ("its own backward returned zeros" if _is_custom(killer) else "")


def _is_custom(node: Node) -> bool:
    """Tell whether this is a custom Function: the names of its nodes don't end in a number, as those of torch do."""
    return node.op.endswith("Backward")


def _place_of(death: _Death) -> object:
    source = death.killer.source or death.killer.library
    return (source.filename, source.line, source.column) if source else (death.killer.op, death.killer.module)


def _death_told(lives: list[_Life]) -> Finding:
    deaths = sorted((life.death for life in lives if life.death), key=lambda death: death.pass_index)
    killer, first = deaths[0].killer, deaths[0].pass_index
    names = first_few(dict.fromkeys(death.leaf.name or "a leaf" for death in deaths))
    was_alive = f" In the {lives[0].alive:,} passes before it was not." if lives[0].alive else ""
    return Finding(
        "zero-gradient", "warning",
        f"the gradient died in {described(killer)}: {deaths[0].reason}. What arrived was not zero, but all "
        f"that went on to {names} is.{was_alive}",
        CLASSES if op_name(killer.op) in SOFTMAX else op_of(killer.op).slope or REMEDY,
        (killer.id, *(d.leaf.id for d in deaths if d.pass_index == first)),
        killer.source or killer.library, first, max(life.dead for life in lives),
    )  # fmt: skip


def _above(graph: BackwardPass, leaf: Node) -> set[str]:
    """Return the nodes from which the leaf can be reached."""
    above, waiting = {leaf.id}, [leaf.id]
    for node_id in waiting:
        fresh = [e.source for e in graph.edges_into[node_id] if e.source not in above]
        above.update(fresh)
        waiting += dict.fromkeys(fresh)
    return above


def _kills(graph: BackwardPass, node: Node, above: set[str]) -> bool:
    """Tell whether a gradient that was not zero arrived and only zeros went on towards the leaf."""
    if node.kind != "function" or not _is_alive(node):
        return False
    sent: list[Edge] = [edge for edge in graph.edges_from[node.id] if edge.target in above]
    return bool(sent) and all(is_zero(edge.grad) for edge in sent)
