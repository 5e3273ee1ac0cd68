"""Pairs that broadcasting makes of (N, 1) and (N): each row with each other row."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.facts.lost_graph import TENSORS, forget_oldest
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Attribute

__all__ = ["MULTIPLIED", "PAIRED", "Broadcasts"]

PAIRED = {"sub", "__sub__", "__rsub__", "rsub", "subtract", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
MULTIPLIED = {"mul", "__mul__", "__rmul__", "multiply"}  # multiplies by pairs on purpose, except of predictions
_LINEAR = {"Addmm", "Mm", "Addmv", "Mv", "Linear"}
_RESHAPED = ("Unsqueeze", "View", "UnsafeView", "Reshape", "Index", "Select", "Slice", "Transpose", "Permute", "Expand")
_ELEMENTWISE = {
    *("Log", "Log1P", "Exp", "Expm1", "Sigmoid", "LogSigmoid", "Tanh", "Softplus", "Clamp", "ClampMin", "ClampMax"),
    *("Neg", "Add", "Sub", "Rsub", "Mul", "Div", "Pow", "Sqrt", "Squeeze", "Select", "View", "ToCopy"),
}
_CHAIN = 10  # elementwise functions between a linear layer and its prediction


class Broadcasts:
    """Pairs made by the calls of one thread, by the sequence number of their node."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[Place | None, dict[str, Attribute]]] = {}

    def among(self, numbers: list[int]) -> Iterator[tuple[int, tuple[Place | None, dict[str, Attribute]]]]:
        """Yield position, place and shapes for each of these nodes that paired its operands."""
        if self._pairs:
            yield from ((p, self._pairs[number]) for p, number in enumerate(numbers) if number in self._pairs)

    def note(self, number: int, name: str, args: tuple[Any, ...]) -> None:
        """Note a difference of (N, 1) and (N), unless the script shaped one of them so for this purpose.

        A product is noted only if one operand is a prediction, because it is more often intended: a linear
        layer's output, and elementwise functions of it.
        """
        if len(args) < 2 or not (type(args[0]) in TENSORS and type(args[1]) in TENSORS):  # noqa: PLR2004
            return
        column, row = (args[0], args[1]) if args[0].dim() > args[1].dim() else (args[1], args[0])
        if row.shape[:1] < (1,) or column.shape[-1:] != (1,) or column.shape[:-1] != row.shape:
            return
        result: torch.Size = torch.broadcast_shapes(column.shape, row.shape)  # type: ignore[no-untyped-call]
        if result == column.shape or (_shaped(column) and "_loss" not in name):
            return
        if name in MULTIPLIED and not (_is_predicted(column) or _is_predicted(row)):
            return
        shapes = {"left": list(args[0].shape), "right": list(args[1].shape), "result": list(result)}
        forget_oldest(self._pairs)
        self._pairs[number] = find_user_place(sys._getframe(1))[0], {"op": name, **shapes}


def _is_predicted(tensor: torch.Tensor) -> bool:
    """Tell whether this is a linear layer's output, or a few elementwise functions of it."""
    node = tensor.grad_fn
    for _ in range(_CHAIN):
        if node is None:
            return False
        name = _name(node)
        if name in _LINEAR:
            return True
        targets = [target for target, _ in node.next_functions if target is not None]
        if name not in _ELEMENTWISE or len(targets) != 1:
            return False
        node = targets[0]
    return False


def _shaped(tensor: torch.Tensor) -> bool:
    """Tell whether the script made this shape on purpose, by a view or an index."""
    node = tensor.grad_fn
    if node is None:
        return tensor._base is not None
    below = node.next_functions[0][0] if node.next_functions else None
    by_linear = below is not None and _name(below) in _LINEAR  # of more than two dimensions
    return not by_linear and (type(node).__name__.startswith(_RESHAPED) or tensor._base is not None)


def _name(node: Any) -> str:
    return type(node).__name__.rstrip("0123456789").removesuffix("Backward")
