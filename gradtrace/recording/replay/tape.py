"""Tape of the forward: the torch calls of a script that a graph needs, with their arguments."""

from __future__ import annotations

import weakref
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name

from gradtrace.recording.autograd.counters import accelerator_module, sequence_number
from gradtrace.recording.autograd.engine_call import graph_of
from gradtrace.recording.isolation.function_modes import remove
from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.replay.calls import GRAD, Key, Ref, TapedCall, TapedGraph, copied, references, tensors_in
from gradtrace.recording.stats.kinds import Measured
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.user_code.variable_names import Names, namespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradtrace.recording.autograd.engine_call import EngineCall

__all__ = ["Tape"]

# Not taped: they compute no forward value, and backward() would be one call with all that it runs.
LARGEST = 2**18  # elements of a tensor that is copied, where copies are kept for formulas only
_PASSIVE = {"size", "dim", "numel", "requires_grad_", "is_floating_point", "backward", "__len__", "__set__"}
_BACKWARD = {torch.autograd.grad, torch.autograd.backward}


class Tape:
    """Taped calls of this thread; ``copies`` has the values of tensors, of large ones only if all are kept.

    A result that no gradient flows to is a constant, however it was computed: of its calls, only those
    on constants are taped, so that a detached tensor is not followed.
    """

    def __init__(self, *, copying: bool) -> None:
        self.calls: list[TapedCall] = []
        self.held: dict[int, Measured] = {}
        self.copies: dict[Key, torch.Tensor] = {}
        self._copying = copying
        self._leaves: set[int] = set()
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int, int]] = {}
        self._next = 0
        self._mode = _CallMode(self)

    def install(self) -> None:
        """Start taping this thread's torch calls, custom Functions included."""
        torch._C._push_on_torch_function_stack(self._mode)
        apply = torch.autograd.Function.__dict__["apply"].__func__
        self._patch = Patch(torch.autograd.Function, "apply", classmethod(self._taping(apply)))
        self._patch.install()

    def uninstall(self) -> None:
        """Stop taping."""
        self._patch.uninstall()
        remove(self._mode)

    def _taping(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        def taped(cls: Any, *args: Any, **kwargs: Any) -> Any:
            return self.run(_Apply(cls, apply), args, kwargs)

        return taped

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call and tape it as one entry, without the calls inside it."""
        passive = getattr(function, "__name__", "") in _PASSIVE or function in _BACKWARD
        if passive or torch._C._functorch.peek_interpreter_stack() is not None:  # its tensors must not escape
            return function(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            taken = self._take(args), self._take(kwargs)
            states = _random_states(args) if self._copying else {}
        start, before = sequence_number(), len(self.calls)
        result = function(*args, **kwargs)
        end = sequence_number()
        with torch._C.DisableTorchFunction():
            results = self._results(result, args, taken[0])
            random = any(not torch.equal(state, _random_state(device)) for device, state in states.items())
        call = TapedCall(function, _name(function), *taken, results, start, end, random)
        if end != start:
            del self.calls[before:]
        if end != start or (results and not isinstance(function, _Apply) and self._is_constant(call)):
            self.calls.append(call)
        return result

    def _results(self, result: Any, args: tuple[Any, ...], taken: tuple[Any, ...]) -> tuple[Key, ...]:
        """Return the results of a call: its return values, and its first argument if changed in place."""
        tensors = list(tensors_in(result))
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and not any(tensor is first for tensor in tensors):
            tensors += [first] if self.key(first) != taken[0].key else []
        return tuple(self.key(tensor) for tensor in tensors)

    def _is_constant(self, call: TapedCall) -> bool:
        return all(key.output < 0 and key.number not in self._leaves for key in (*references(call), *call.results))

    def key(self, tensor: torch.Tensor) -> Key:
        """Return the key of a tensor, and keep its value if it is new."""
        node = tensor.grad_fn
        if node is not None:
            key = Key(node._sequence_nr(), tensor.output_nr)
        else:
            known = self._known.get(id(tensor))
            if known is not None and known[0]() is tensor and known[1] == tensor._version:
                if tensor.requires_grad:
                    self._leaves.add(known[2])
                return Key(known[2], -1)
            self._next += 1
            self._known[id(tensor)] = (weakref.ref(tensor), tensor._version, self._next)
            self.held[self._next] = measure(tensor.detach())
            key = Key(self._next, -1)
            if tensor.requires_grad:
                self._leaves.add(self._next)
        if key not in self.copies and (self._copying or tensor.numel() <= LARGEST):
            copy = copied(tensor)
            if copy is not None:
                self.copies[key] = copy
        return key

    def _take(self, value: Any) -> Any:
        """Return an argument with a Ref in place of each tensor."""
        if isinstance(value, torch.Tensor):
            return Ref(self.key(value))
        if isinstance(value, dict):
            return {name: self._take(item) for name, item in value.items()}
        if type(value) in {list, tuple}:
            return type(value)(self._take(item) for item in value)
        return value

    def scene(self, call: EngineCall, spaces: Iterable[dict[str, Any]]) -> TapedGraph | None:
        """Return the tape of the graph that the engine is called for."""
        with torch._C.DisableTorchFunction():
            graph = graph_of(call)
            if graph is None:
                return None
            leaves = {position: self.key(graph.nodes[position].variable).number for position in graph.leaves}
            script = Names(chain(spaces, namespaces(call.frame)))
            found = script.by_id()
            script.forget()
        names = {
            serial: found[key]
            for key, (tensor, _, serial) in self._known.items()
            if key in found and tensor() is not None
        }
        numbers = {node._sequence_nr() for node in graph.nodes}
        calls = self._reached(numbers)
        used = {key.number for call_ in calls for key in references(call_) if key.output < 0} | set(leaves.values())
        held = {serial: self.held[serial] for serial in used if serial in self.held}
        wanted = {key for call_ in calls for key in (*references(call_), *call_.results)}
        wanted |= {Key(serial, -1) for serial in leaves.values()}
        copies = {key: self.copies[key] for key in wanted if key in self.copies}
        return TapedGraph(calls, leaves, names, held, copies)

    def _reached(self, numbers: set[int]) -> list[TapedCall]:
        """Return the calls that made these nodes, and those that made their arguments."""
        needed: set[Key] = set()
        found = []
        for call in reversed(self.calls):
            made = not numbers.isdisjoint(range(call.start, call.end)) if call.end > call.start else False
            if made or not needed.isdisjoint(call.results):
                found.append(call)
                needed.update(key for key in references(call) if key.output >= 0 or key.number not in self._leaves)
        return found[::-1]

    def without_grad(self, call: EngineCall) -> list[torch.Tensor]:
        """Return the leaves whose ``.grad`` will be computed by this pass, with a graph of its own."""
        graph = graph_of(call) if call.accumulates and call.create_graph else None
        with torch._C.DisableTorchFunction():
            leaves = [graph.nodes[position].variable for position in graph.leaves] if graph else []
            return [leaf for leaf in leaves if leaf.grad is None]

    def note_grad(self, call: EngineCall, found: list[tuple[Any, Any]], start: int) -> None:
        """Tape the derivatives that the engine made with a graph, from ``start`` on: their inputs and results."""
        if not call.create_graph or len(call.outputs) != 1:
            return
        with torch._C.DisableTorchFunction():
            seed = call.seeds[0]
            if seed is not None and not bool((seed == 1).all()):
                return
            pairs = [(by, to) for by, to in found if to is not None and to.requires_grad]
            tensors = [call.outputs[0], *(by for by, _ in pairs)]
            if pairs and all(isinstance(tensor, torch.Tensor) for tensor in tensors):
                args = tuple(Ref(self.key(tensor)) for tensor in tensors if isinstance(tensor, torch.Tensor))
                results = tuple(self.key(to) for _, to in pairs)
                self.calls.append(TapedCall(_derivative, GRAD, args, {}, results, start, sequence_number()))

    def forget(self, scene: TapedGraph | None, before: int) -> None:
        """Drop the calls older than ``before`` that are not in this scene, with the tensors that only they used."""
        kept = {id(call) for call in scene.calls} if scene else set()
        self.calls = [call for call in self.calls if id(call) in kept or call.start >= before]
        used = {key.number for call in self.calls for key in references(call) if key.output < 0}
        self._known = {key: known for key, known in self._known.items() if known[0]() is not None}
        used |= {known[2] for known in self._known.values()}
        self.held = {serial: held for serial, held in self.held.items() if serial in used}
        kept_keys = {key for call in self.calls for key in (*references(call), *call.results)}
        self.copies = {key: copy for key, copy in self.copies.items() if key in kept_keys or key.number in used}


def _random_states(args: tuple[Any, ...]) -> dict[torch.device, torch.Tensor]:
    """Return the state of the CPU's generator, and of those of all devices that the arguments are on."""
    devices = {torch.device("cpu"), *(tensor.device for tensor in tensors_in(args) if tensor.device.type != "meta")}
    module, accelerator = accelerator_module(), torch.accelerator.current_accelerator()
    if module is not None and accelerator is not None and module.is_available():
        devices.add(torch.device(accelerator.type, torch.accelerator.current_device_index()))
    return {device: _random_state(device) for device in devices}


def _random_state(device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    state: torch.Tensor = torch.get_device_module(device).get_rng_state(device)
    return state


class _CallMode(TorchFunctionMode):
    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._tape.run(func, args, kwargs or {})


class _Apply:
    """``apply`` of a custom Function, as a callable for the rerun."""

    def __init__(self, cls: Any, apply: Callable[..., Any]) -> None:
        self.cls = cls
        self._apply = apply
        self.__name__ = "apply"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._apply(self.cls, *args, **kwargs)


def _derivative(*_: Any) -> Any:
    raise NotImplementedError("a derivative is not replayed")


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, _Apply):
        return f"{function.cls.__name__}.apply"
    return str(resolve_name(function) or getattr(function, "__name__", function))
