"""Values to evaluate the formulas of a pass: its leaves, its constants, the results of its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradtrace.model import Held
from gradtrace.recording.replay.calls import Key, references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.recording.replay.calls import TapedGraph
    from gradtrace.recording.replay.gradient_copies import GradientCopies

__all__ = ["held"]

MOST = 2**21  # elements of one pass, gradients included: 8 MB of float32


def held(scene: TapedGraph, arrivals: GradientCopies, ids: dict[int, str]) -> tuple[Held, ...]:
    """Return the values up to the limit: leaves first, then constants, then the rest."""
    found: list[Held] = []
    room = MOST
    for key, position in _wanted(scene, arrivals):
        value = scene.copies.get(key)
        grad = _arrived(arrivals, key, position)
        size = sum(tensor.numel() for tensor in (value, grad) if tensor is not None)
        if size > room or value is None:
            continue
        room -= size
        wide = value.dtype in {torch.float64, torch.int64}
        dtype = torch.float64 if wide else torch.float32
        place = (ids[position], max(key.output, 0)) if position is not None else ("", 0)
        outside = key.number if position is None else 0
        found.append(Held(*place, outside, "f8" if wide else "f4", _bytes(value, dtype), _bytes(grad, dtype)))
    return tuple(found)


def _wanted(scene: TapedGraph, arrivals: GradientCopies) -> Iterator[tuple[Key, int | None]]:
    """Yield each tensor of a pass with its position in the graph, if it has one."""
    leaves = {Key(serial, -1): position for position, serial in scene.leaves.items()}
    numbers = {n: position for position, n in enumerate(arrivals.numbers) if position not in arrivals.leaves}
    yield from leaves.items()
    keys = dict.fromkeys(key for call in scene.calls for key in (*references(call), *call.results) if key not in leaves)
    yield from ((key, None) for key in keys if key.output < 0)
    yield from ((key, numbers[key.number]) for key in keys if key.output >= 0 and key.number in numbers)


def _arrived(arrivals: GradientCopies, key: Key, position: int | None) -> torch.Tensor | None:
    if position is None:
        return None
    return arrivals.into(position) if key.output < 0 else arrivals.at(position, key.output)


def _bytes(tensor: torch.Tensor | None, dtype: torch.dtype) -> bytes:
    if tensor is None or tensor.is_complex() or tensor.layout is not torch.strided:
        return b""
    with torch._C.DisableTorchFunction():
        return bytes(tensor.detach().to("cpu", dtype).contiguous().numpy().astype(f"<f{dtype.itemsize}").tobytes())
