"""The recorded forward, run again in float64, with any of its tensors replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.replay.calls import GRAD, Key, Ref, TapedCall, references, tensors_in
from gradtrace.recording.stats.device import is_accelerator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradtrace.recording.replay.calls import TapedGraph

__all__ = ["Replay", "float64"]

_CASTS = {f"torch.Tensor.{name}" for name in ("float", "half", "bfloat16", "double", "type", "type_as", "cpu")}
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_DIFFER = 0.05  # share of the largest element; above rounding, even in half precision
_ROUNDED = 1e-6  # share of the largest argument: rounding in float32, which remains where a sum cancels

Tensors = dict[Key, torch.Tensor]


def float64(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in float64 (complex128) if it has real (complex) numbers, else as it is."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


class Replay:
    """Taped calls of one pass; ``held`` has the values of each tensor when the script ran, in float64."""

    def __init__(self, scene: TapedGraph) -> None:
        self.held: Tensors = {key: float64(copy) for key, copy in scene.copies.items()}
        self.calls = [call for call in scene.calls if call.end > call.start]
        self._problems: dict[int, str] = {}

    def run(self, call: TapedCall, changed: Mapping[Key, torch.Tensor]) -> Tensors:
        """Return the results of a call with its recorded arguments, some replaced; its exceptions are passed on."""
        args, kwargs = self._fill(call.args, changed), self._fill(call.kwargs, changed)
        if call.name in _CASTS or is_accelerator(call.name.rpartition(".")[2]):  # x.float(), x.cuda()
            return {call.results[0]: float64(args[0])}
        made = list(tensors_in(call.function(*args, **kwargs)))
        if len(made) < len(call.results) and isinstance(args[0], torch.Tensor):
            made.append(args[0])  # changed in place, and not returned
        return {key: float64(tensor.detach()) for key, tensor in zip(call.results, made, strict=False)}

    def _fill(self, value: Any, changed: Mapping[Key, torch.Tensor]) -> Any:
        if type(value) is Ref:
            tensor = changed.get(value.key)
            # A copy, because the call may change it in place.
            return (self.held[value.key] if tensor is None else tensor).clone()
        if isinstance(value, torch.dtype):
            return torch.float64 if value in _FLOATS else value
        if isinstance(value, torch.device) or (isinstance(value, str) and is_accelerator(value.partition(":")[0])):
            return "cpu"  # the rerun is on the CPU, whichever device the script used
        if isinstance(value, dict):
            return {name: self._fill(item, changed) for name, item in value.items()}
        if type(value) in {list, tuple}:
            return type(value)(self._fill(item, changed) for item in value)
        return value

    def problem(self, call: TapedCall) -> str:
        """Return why a call can't be rerun, empty if it can."""
        key = id(call)
        if key not in self._problems:
            self._problems[key] = self._look(call)
        return self._problems[key]

    def _look(self, call: TapedCall) -> str:
        short = call.name.removeprefix("torch.").removeprefix("nn.functional.")
        unfit = self._unfit(call, short)
        if unfit:
            return unfit
        try:
            made = self.run(call, {})
        except Exception as error:  # noqa: BLE001 - a custom forward may raise anything in float64
            return f"{short} does not run in float64: {type(error).__name__}"
        if set(made) != set(call.results):
            return f"{short} returns something else when it runs again"
        given = max((_largest(self.held[key]) for key in references(call)), default=0.0)
        same = all(self._same(key, tensor, given) for key, tensor in made.items())
        return "" if same else f"{short} gives another result"

    def _unfit(self, call: TapedCall, short: str) -> str:
        if call.random:
            return f"{short} is random"
        if call.name == GRAD:
            return "it is itself made by a backward pass"
        unknown = any(key not in self.held for key in references(call))
        return f"an argument of {short} was not recorded" if unknown else ""

    def _same(self, key: Key, tensor: torch.Tensor, given: float) -> bool:
        """Tell whether a result equals the recorded one within rounding, also where the ``given`` numbers cancel."""
        before = self.held.get(key)
        if before is None or before.shape != tensor.shape:
            return False
        if not before.is_floating_point():
            return True
        finite = torch.isfinite(before) & torch.isfinite(tensor)
        allowed = _DIFFER * _largest(before) + _ROUNDED * given + 1e-30
        return bool(((before - tensor)[finite].abs() <= allowed).all())

    def downstream(self, key: Key) -> list[TapedCall]:
        """Return the calls that depend on a tensor, in order."""
        touched = {key}
        found = []
        for call in self.calls:
            if not touched.isdisjoint(references(call)):
                found.append(call)
                touched.update(call.results)
        return found

    def through(self, calls: list[TapedCall], key: Key, value: torch.Tensor) -> Tensors:
        """Return the results of these calls with one tensor replaced."""
        changed = {key: value}
        for call in calls:
            changed.update(self.run(call, changed))
        return changed


def _largest(tensor: torch.Tensor) -> float:
    """Return the largest finite element of a tensor of floating-point numbers, 0 for any other."""
    if not tensor.is_floating_point():
        return 0.0
    finite = tensor[torch.isfinite(tensor)]
    return finite.abs().max().item() if finite.numel() else 0.0
