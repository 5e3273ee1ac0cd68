"""Facts of passes and of a run that no gradient shows: graphs freed, memory changed, values cut, rows paired.

Recorded under ``Options(facts=True)``. The mode of ``forward/mode.py`` shows each torch call of the
script; a note keeps no tensor alive, computes nothing, and reads no number. The kinds of Fact, with ``data``:

    freed            the graph that this pass needed was freed by an earlier one: ``pass``, ``same`` (as a whole)
    changed          what a node had saved was changed in place: ``op``, ``saved``, ``shape``, ``was``, ``version``
    unused           an input that no output depends on: ``name``, ``shape``
    frozen           (of a pass without a graph) all parameters used are frozen: ``names``, and where that was done
    cut              where a tensor without a graph lost it: ``how``
    broadcast        operands of different shapes made pairs: ``op``, ``left``, ``right``, ``result``
    nonfinite        where an output that is not finite got that from: ``kind`` (born, given, data, leaf), ``what``,
                     and of a birth ``op``, ``from``, ``count``, ``shape``, ``dtype``, ``element``, ``operands``
    swallowed        an overflow in half precision of which a node made zeros: as above
    broken-gradient  where an op sent on what is not finite: ``input``, ``element``, ``sent``, ``arrived``, ``saved``,
                     the input's ``value``, ``equal`` (of a spectrum), ``came``: as ``kind`` above, of a broken input
    held             leaves whose .grad was there already: ``passes`` (this one included)
    no-second-order  a custom Function gave no graph under create_graph
    reused           (of the run) an optimizer stepped twice on one gradient: ``names``, ``passes``, ``pass``
    detached         (of the run) parameters whose only way to the loss was cut: ``how``, ``names``; ``idle``: they only
                     ever ran without a graph; ``maybe``: they may be meant to be fixed
    unreached        (of the run) parameters that no pass reached: ``names`` (shapes where there is none), ``used``,
                     ``idle``, and ``how`` they were lost
    older-nodes      nodes that the pass before ran, or that are older: ``count``, ``of`` all
    untrained        leaves that are parameters in no optimizer, where there is one
    changed-unseen   what a node had saved was changed through ``.data``: ``op``, ``saved``
    clip-misplaced   (of the run) a line that clips gradients ``how``: before, after, scaled; ``times``
    no-effect        (of the run) steps that changed nothing: ``how`` (zeroed, without rate, resolution), ``times``,
                     ``names``
    graph-kept       (of the run) a line that keeps graphs: ``how`` (sum, list), ``passes``, ``nodes`` of the last one
    not-a-leaf       (of the run) .grad of a tensor that is no leaf was read: ``text``, ``file``, ``line``; and where
                     that tensor was made
    alias            (of the run) a gradient was read by a second name after it changed: ``name`` of the leaf, ``how``
    group            leaves whose gradients some ranks alone have reduced: ``ranks``
    joined           DDP lets ranks end earlier than others: its loop runs under ``join()``
    distributed-autograd  (of the run) passes of torch.distributed.autograd, which are not recorded: ``passes``
    optimizer        (of the run) there was one
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradtrace.model import CHANGED, FREED, Fact
from gradtrace.recording.autograd.saved_tensors import saved_tensors
from gradtrace.recording.backward.raw_pass import RawFact
from gradtrace.recording.facts.constructors import Constructor
from gradtrace.recording.facts.failures import FreedGraphs, changed
from gradtrace.recording.facts.kept_graphs import KeptGraphs
from gradtrace.recording.facts.leaf_history import LeafFacts
from gradtrace.recording.facts.lost_graph import Cut
from gradtrace.recording.facts.nonfinite_element import backward_element, is_broken
from gradtrace.recording.facts.nonfinite_facts import leaf_element, nonfinite, swallowed
from gradtrace.recording.facts.shared import Shared
from gradtrace.recording.facts.torch_calls import UNREADABLE, CallFacts
from gradtrace.recording.facts.training_steps import TrainingSteps
from gradtrace.recording.facts.unseen_passes import UnseenPasses
from gradtrace.recording.isolation.hidden import hidden
from gradtrace.recording.isolation.patch import Registered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.model import Attribute
    from gradtrace.recording.autograd.engine_call import EngineCall
    from gradtrace.recording.autograd.graph import Walk
    from gradtrace.recording.backward.raw_pass import GraphSnapshot, RawPass
    from gradtrace.recording.distributed.wrappers import Wrappers
    from gradtrace.recording.facts.nonfinite_births import Origin
    from gradtrace.recording.forward.mode import CallObserver
    from gradtrace.recording.forward.thread_logs import ThreadLog
    from gradtrace.recording.isolation.patch import Removable
    from gradtrace.recording.stats.kinds import Measured
    from gradtrace.recording.user_code.frames import Place
    from gradtrace.recording.user_code.source_text import Sources
    from gradtrace.recording.user_code.variable_names import Names

    _AllMeasured = Sequence[Measured | None]

__all__ = ["Facts"]

_BROKEN = 8  # ops in a pass whose element is searched for


class Facts:
    """Collects the facts of all passes of a run."""

    def __init__(self, wrappers: Wrappers) -> None:
        self.shared = Shared()
        self.calls: dict[ThreadLog, CallFacts] = {}
        self.leaves = LeafFacts(self.shared, wrappers)
        self.unseen = UnseenPasses()
        self._gradients: deque[Cut] = deque(maxlen=1000)
        self._freed = FreedGraphs()
        self.steps = TrainingSteps()
        self.kept = KeptGraphs()
        self.shared.kept, self.shared.steps = self.kept, self.steps

    def call_observer(self, log: ThreadLog) -> CallObserver:
        """Return the observer of the torch calls of this log's thread."""
        calls = self.calls[log] = CallFacts(self.shared, log)
        return calls.see

    def parts(self) -> list[Removable]:
        """Return the observer of modules and optimizers."""
        return [
            Registered(register_optimizer_step_pre_hook, self._before_step),
            Registered(register_optimizer_step_post_hook, self._after_step),
            *self.steps.parts(),
            *self.unseen.patches(),
            Constructor(torch.nn.Parameter, self.shared.cuts.replace),
            Constructor(torch.autograd.Variable, self.shared.cuts.replace),
        ]

    def _before_step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self.leaves.step(optimizer)
        with suppress(*UNREADABLE), hidden():
            self.steps.step(optimizer)

    def _after_step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self.shared.is_stepping = False
        self.leaves.stepped(optimizer)
        with suppress(*UNREADABLE), hidden():
            self.steps.stepped(optimizer)

    def of_pass(self, pass_index: int, log: ThreadLog) -> PassFacts:
        """Return the observer of one pass."""
        return PassFacts(self, pass_index, log)

    def before(self, snapshot: GraphSnapshot, call: EngineCall, graph: Walk, seen: PassFacts) -> Iterator[RawFact]:
        """Yield the facts known before the engine runs."""
        numbers = list(snapshot.numbers)
        self.shared.is_stepping = False  # reset here too, because a step may have raised
        calls = self.calls.get(seen.log)
        if calls is not None:
            for position, pair in calls.broadcasts.among(numbers):
                yield RawFact("broadcast", (position,), *pair)
            calls.note_flows(numbers, seen.pass_index)
        for position in graph.leaves if self.shared.cuts else ():
            # A leaf that is a result without its graph, set to require grad afterwards.
            for cut in self.shared.cuts.behind(graph.nodes[position].variable):
                cut.note_flow(seen.pass_index)
        older = self.kept.before(seen.log, numbers, (n for p, n in enumerate(numbers) if p not in snapshot.leaves))
        if older and call.accumulates:
            yield RawFact("older-nodes", (), None, {"count": older, "of": len(numbers)})
        yield from self._changed_unseen(snapshot, graph)
        held = self.leaves.before(seen.pass_index, call, graph)
        untrained = self.leaves.untrained(graph)
        if untrained and call.accumulates:
            yield RawFact("untrained", untrained)
        for count, positions in held.items():
            yield RawFact("held", positions, None, {"passes": count})

    def after(self, raw: RawPass, call: EngineCall, graph: Walk, *, whole: bool) -> Iterator[RawFact]:
        """Yield the facts of the engine's run, its failure first; none for a pass that is not kept."""
        message = raw.error[1] if raw.error is not None else ""
        with torch._C.DisableTorchFunction():
            self.leaves.after(call, graph)
            self.leaves.failed = raw.pass_index if raw.error is not None else self.leaves.failed
            if call.accumulates and raw.error is None:
                self.steps.passed(leaf for _, leaf in self.leaves.parameters(graph))
            self.kept.after(raw.graph.place, call.outputs, raw.pass_index, len(raw.graph.numbers))
            self.shared.aliases.passed(raw.pass_index)
            if not whole:
                return
            if CHANGED in message:
                yield from changed(self.shared, message, raw, graph)
            if FREED in message:
                yield from self._freed.fact(raw)
            if call.create_graph and raw.error is None:
                yield from self._without_second_order(raw, graph)
        if not call.retains_graph:
            self._freed.remember(raw)

    def returned(self, raw: RawPass, call: EngineCall, result: Any) -> None:
        """Note the gradients that a pass returned without a graph."""
        if call.accumulates or not call.inputs:
            return
        cut = Cut(raw.graph.place, "lost-grad" if call.create_graph else "grad")
        self._gradients.append(cut)
        for gradient in result:
            if type(gradient) is torch.Tensor and not gradient.requires_grad:
                self.shared.cuts.lose(gradient, (cut,))

    def of_run(self, sources: Sources) -> tuple[Fact, ...]:
        """Return the facts of the run as a whole."""
        found = [*self.leaves.of_run(), *self.leaves.reused]
        found += self.shared.aliases.of_run(self.leaves.names)
        found += [("detached", (), place, data) for place, data in self._terms()]
        found += [*self.steps.of_run(self.leaves.names), *self.kept.of_run(), *self.unseen.of_run()]
        read = [(sources(at), made) for at, made in self.shared.missing_grads.items()]
        found += [
            ("not-a-leaf", (), made, {"text": at.text, "file": at.filename, "line": at.line}) for at, made in read if at
        ]
        return tuple(Fact(kind, (), sources(place), data) for kind, _, place, data in (RawFact(*f) for f in found))

    def _changed_unseen(self, snapshot: GraphSnapshot, graph: Walk) -> Iterator[RawFact]:
        """Yield the nodes with a saved tensor that was changed through ``.data`` afterwards."""
        changes = self.shared.unseen
        newest = max((change.number for change in changes), default=-1)
        for position, number in enumerate(snapshot.numbers if changes else ()):
            if position in snapshot.leaves or number >= newest:
                continue
            for name, tensor in saved_tensors(graph.nodes[position]):
                memory = tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0
                change = next((c for c in changes if c.memory == memory and c.number > number), None)
                if change is not None:
                    yield RawFact("changed-unseen", (position,), change.place, {"op": change.name, "saved": name})

    def _terms(self) -> Iterator[tuple[Place | None, dict[str, Attribute]]]:
        """Yield the cuts behind a term of a loss that trains nothing."""
        gradients = {cut.place: cut for cut in reversed(self._gradients)}
        for cut in (*gradients.values(), *self.shared.cuts.all):
            if cut.is_term and cut.flow:
                yield cut.place, {"how": cut.how, "names": [], "pass": cut.flow}

    def cuts(self, call: EngineCall, names: Names) -> list[RawFact]:
        """Return where outputs without a graph lost it, or the frozen parameters that they may come from."""
        cuts = self.shared.cuts.among(output for output in call.outputs if isinstance(output, torch.Tensor))
        if cuts:
            return [RawFact("cut", (), cut.place, {"how": cut.how}) for cut in cuts]
        used = [parameter for known in self.shared.used.values() if (parameter := known()) is not None]
        frozen = [parameter for parameter in used if not parameter.requires_grad]
        if not frozen or len(frozen) < len(used):
            return []
        known_frozen = {ref(): place for ref, place in self.shared.frozen.values()}
        places = [known_frozen[parameter] for parameter in frozen if parameter in known_frozen]
        place = places[-1] if places else None
        known: list[Attribute] = [names.name(parameter) for parameter in frozen]
        return [RawFact("frozen", (), place, {"names": known})]

    def _without_second_order(self, raw: RawPass, graph: Walk) -> list[RawFact]:
        """Return the custom Functions whose gradient depends on an input and has no graph despite create_graph."""
        found = []
        for position in dict.fromkeys(event[1] for event in raw.own_events()):
            forward = getattr(type(graph.nodes[position]), "_forward_cls", None)
            if forward is not None and position not in raw.run.made_by and self._keeps_input(graph.nodes[position]):
                once = hasattr(forward.backward, "__wrapped__")
                found.append(RawFact("no-second-order", (position,), None, {"once_differentiable": once}))
        return found

    def _keeps_input(self, node: Any) -> bool:
        """Tell whether a custom Function saved an input, or stored on ctx a value computed from one."""
        if any(tensor.requires_grad for _, tensor in saved_tensors(node)):
            return True
        kept = getattr(node, "__dict__", {}).values()
        return any(isinstance(value, torch.Tensor) and bool(self.shared.cuts.of(value)) for value in kept)


class PassFacts:
    """Observes one pass for the facts of the run: see ``PassObserver``."""

    def __init__(self, facts: Facts, pass_index: int, log: ThreadLog) -> None:
        self.pass_index = pass_index
        self.log = log
        self._facts = facts
        self._found: list[RawFact] = []
        self._numbers: Sequence[int] = ()

    def before(self, snapshot: GraphSnapshot, call: EngineCall, graph: Walk | None, names: Names) -> None:
        """Note the facts known before the engine runs."""
        with suppress(*UNREADABLE), hidden():
            if graph is None:
                self._found += self._facts.cuts(call, names)
                return
            self._facts.leaves.learn(names)
            self._found += self._facts.before(snapshot, call, graph, self)
            self._found += _unused(call, graph, names)
            births, calls = self._facts.shared.births, self._facts.calls.get(self.log)
            self._numbers = snapshot.numbers
            self._found += nonfinite(births, (snapshot.numbers, graph, self.log), call.outputs)
            if calls is not None:
                self._found += swallowed(calls, (snapshot.numbers, graph, self.log))

    def before_leaves(self, pass_index: int, call: EngineCall, graph: Walk) -> None:
        """Note the leaves of a pass that is kept as a row for each leaf."""
        self._facts.leaves.before(pass_index, call, graph)

    def broken(self, graph: Walk, position: int, arrived: _AllMeasured, sent: _AllMeasured, *grads: Any) -> None:
        """Note where a gradient arrived finite and was sent on broken: the element, and the values there."""
        known = sum(fact.kind == "broken-gradient" for fact in self._found)
        if known >= _BROKEN or any(map(is_broken, arrived)) or not any(map(is_broken, sent)):
            return
        with suppress(*UNREADABLE), hidden():
            data = backward_element(graph.nodes[position], *grads)
            if data:
                along = (position, data["input"])
                target = next((link[2] for link in graph.links if link[:2] == along), None)
                leaf = graph.nodes[target].variable if target in graph.leaves else None
                data["value"] = leaf_element(leaf, data["element"])
                came = self._came_from(target)
                data |= {} if came is None else {"came": came.kind}
                place = None if came is None else came.place or (came.entered or (None,))[0]
                self._found.append(RawFact("broken-gradient", (position,), place, data))

    def _came_from(self, target: int | None) -> Origin | None:
        """Return the origin of values that are not finite in the output of a node."""
        births = self._facts.shared.births
        origins = births.of_number(self.log, self._numbers[target]) if target is not None else ()
        return next((origin for origin in origins if origin.kind != "unseen"), None)

    def after(self, raw: RawPass, call: EngineCall, graph: Walk | None, *, whole: bool) -> tuple[RawFact, ...]:
        """Return all facts of the pass, when its engine has returned or raised."""
        if graph is not None:
            with suppress(*UNREADABLE), hidden():
                self._found += self._facts.after(raw, call, graph, whole=whole)
        return tuple(self._found)

    def returned(self, raw: RawPass, call: EngineCall, result: Any) -> None:
        """Note the gradients that a pass returned without a graph."""
        self._facts.returned(raw, call, result)


def _unused(call: EngineCall, graph: Walk, names: Names) -> list[RawFact]:
    """Return the inputs that no output depends on."""
    tensors = [tensor for tensor in call.inputs if isinstance(tensor, torch.Tensor) and tensor.requires_grad]
    if not tensors:
        return []
    leaves = {id(graph.nodes[position].variable) for position in graph.leaves}
    functions = set(graph.nodes)
    missing = [t for t in tensors if (id(t) not in leaves if t.grad_fn is None else t.grad_fn not in functions)]
    found = [(names.name(t), [*t.shape]) for t in missing]
    return [RawFact("unused", (), None, {"name": name, "shape": [*shape]}) for name, shape in found]
