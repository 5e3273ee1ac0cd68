"""Which element it was that blew up, of a tensor of any size: looked for only where something is not finite.

A hook that has just seen NaN or infinity leave a node has all at hand: the gradients and what the node saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gradtrace.ops import op_of
from gradtrace.recording.autograd.saved_tensors import saved_tensors
from gradtrace.recording.stats.reductions import Pending, Sums

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradtrace.model import Attribute
    from gradtrace.recording.stats.kinds import Measured

__all__ = ["backward_element", "forward_element", "is_broken"]

Gradients = tuple[torch.Tensor | None, ...]


def is_broken(measured: Measured | None) -> bool:
    """Tell whether a large tensor that was measured holds NaN or infinity; of small ones all values are known."""
    if measured is None:
        return False
    found = measured[1]
    if type(found) is Sums:
        return bool(found.nan or found.inf)
    tensor = found.tensor if type(found) is Pending else None
    if tensor is None or not tensor.is_cpu:
        return False
    total = tensor.sum().item()
    return bool(total - total != 0)


def backward_element(node: Any, sending: Gradients, arriving: Gradients) -> dict[str, Attribute]:
    """Return the first element that was sent on broken: which, and all that is known at its place.

    ``input`` counts the gradients sent, ``element`` is the index in that one, ``sent`` and ``arrived`` are the
    gradients there, and ``saved`` the names and values of what the node kept, where that has this element, too.
    """
    for index, grad in enumerate(sending):
        if grad is None or grad.layout is not torch.strided or not grad.numel():
            continue
        element = _first(~torch.isfinite(grad))
        if element is not None:
            arrived = next((_at(g, grad, element) for g in arriving if g is not None), None)
            saved: list[Attribute] = [[name, _at(tensor, grad, element)] for name, tensor in saved_tensors(node)]
            kept: list[Attribute] = [pair for pair in saved if isinstance(pair, list) and pair[1] is not None]
            place: list[Attribute] = list(element)
            return {
                "input": index,
                "element": place,
                "sent": _at(grad, grad, element),
                "arrived": arrived,
                "saved": kept,
            }
    return {}


def forward_element(node: Any) -> dict[str, Attribute]:
    """Return the first element of a node's output that is broken though its input was not, and its input there.

    Told by what the node kept; nothing where that does not tell.
    """
    kept = dict(saved_tensors(node))
    held, result = kept.get("self"), kept.get("result")
    recompute = op_of(type(node).__name__).recompute
    if held is not None and recompute:
        element = _first(torch.isfinite(held) & ~torch.isfinite(getattr(torch, recompute)(held)))
    elif held is not None and "other" in kept and type(node).__name__ == "DivBackward0":
        held, element = kept["other"], _first(kept["other"] == 0)
    elif result is not None and result.is_floating_point():
        held, element = None, _first(~torch.isfinite(result))
    else:
        return {}
    if element is None:
        return {}
    place: list[Attribute] = list(element)
    return {"element": place, "value": None if held is None else _at(held, held, element)}


def _first(mask: torch.Tensor) -> tuple[int, ...] | None:
    """Return the index of the first element that is true."""
    flat = mask.reshape(-1)
    if not bool(flat.any()):
        return None
    position, found = int(flat.int().argmax()), []
    for size in reversed(mask.shape):
        position, rest = divmod(position, size)
        found.append(rest)
    return tuple(reversed(found))


def _at(tensor: torch.Tensor, like: torch.Tensor, element: Iterable[int]) -> float | str | None:
    """Return the element there, a word if it is not finite; None where the tensor does not go as far."""
    if tensor.layout is not torch.strided or tensor.is_complex():
        return None
    if tensor.shape != like.shape:
        try:
            tensor = torch.broadcast_to(tensor, like.shape)
        except RuntimeError:
            return None
    number = float(tensor[tuple(element)])
    return number if number - number == 0 else str(number)
