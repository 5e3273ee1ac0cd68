"""Element that broke, in a tensor of any size; searched only where a value is not finite.

A hook that sees NaN or infinity leave a node has access to the gradients and to the saved tensors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.autograd.saved_tensors import saved_tensors
from gradtrace.recording.stats.reductions import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.model import Attribute
    from gradtrace.recording.stats.kinds import Measured

__all__ = ["backward_element", "first_index", "holds_nonfinite", "is_broken", "value_at"]

Gradients = tuple[torch.Tensor | None, ...]


def is_broken(measured: Measured | None) -> bool:
    """Tell whether a measured tensor holds NaN or infinity; one not reduced yet is read only on the CPU."""
    if measured is None:
        return False
    values = measured[1]
    if type(values) is Sums:
        return bool(values.nan or values.inf)
    if type(values) is list:
        while values and type(values[0]) is list:
            values = [item for row in values for item in row]
        values = math.fsum(values) if math.inf not in values and -math.inf not in values else math.nan
    elif type(values) is Pending and values.tensor is not None and values.tensor.is_cpu:
        values = values.tensor.sum().item()
    return type(values) is float and values - values != 0


def backward_element(node: Any, sending: Gradients, arriving: Gradients) -> dict[str, Attribute]:
    """Return the first element that was sent on broken: its index, and the values at that index.

    ``input`` counts the gradients sent, ``element`` is the index in that one, ``sent`` and ``arrived`` are the
    gradients there, and ``saved`` the names and values of saved tensors that have this element too.
    """
    for index, grad in enumerate(sending):
        if grad is None or grad.layout is not torch.strided or not grad.numel():
            continue
        element = first_index(~torch.isfinite(grad))
        if element is not None:
            arrived = next((value_at(g, grad.shape, element) for g in arriving if g is not None), None)
            saved: list[Attribute] = [
                [name, value_at(tensor, grad.shape, element)] for name, tensor in saved_tensors(node)
            ]
            kept: list[Attribute] = [pair for pair in saved if isinstance(pair, list) and pair[1] is not None]
            place: list[Attribute] = list(element)
            return {
                "input": index,
                "element": place,
                "sent": value_at(grad, grad.shape, element),
                "arrived": arrived,
                "saved": kept,
                **_equal(node),
            }
    return {}


def _equal(node: Any) -> dict[str, Attribute]:
    """Return the first repeated eigenvalue or singular value, for a node that divides by their differences."""
    for name, tensor in saved_tensors(node) if type(node).__name__.startswith("Linalg") else ():
        if name in {"L", "S", "eigenvalues"} and tensor.is_floating_point() and tensor.dim():
            twice = tensor[..., 1:][tensor[..., 1:] == tensor[..., :-1]]
            return {"equal": float(twice[0])} if twice.numel() else {}
    return {}


def first_index(mask: torch.Tensor) -> tuple[int, ...] | None:
    """Return the index of the first element that is true."""
    flat = mask.reshape(-1)
    if not bool(flat.any()):
        return None
    position, found = int(flat.int().argmax()), []
    for size in reversed(mask.shape):
        position, rest = divmod(position, size)
        found.append(rest)
    return tuple(reversed(found))


def value_at(tensor: torch.Tensor, shape: torch.Size, element: Iterable[int]) -> float | str | None:
    """Return the element there of a tensor expanded to this shape, a word if it is not finite; None if it can't be."""
    if tensor.layout is not torch.strided or tensor.is_complex():
        return None
    if tensor.shape != shape:
        try:
            tensor = torch.broadcast_to(tensor, shape)
        except RuntimeError:
            return None
    number = float(tensor[tuple(element)])
    return number if number - number == 0 else str(number)


def holds_nonfinite(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor holds NaN or infinity; its sum does then, and few other sums are infinite."""
    if tensor.layout is not torch.strided:
        return False
    tensor = tensor.detach()
    total = tensor.sum().item()
    return total - total != 0 and not bool(tensor.isfinite().all())
