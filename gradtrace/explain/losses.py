"""The common losses, as expressions per element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import sympy as sp

from gradtrace.explain.indexing import take
from gradtrace.explain.indices import axis, over_all
from gradtrace.explain.operations import softplus
from gradtrace.explain.shapes import SHAPED, Value, joined

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOSSES"]


def _averaged(value: Value, reduction: str = "mean", **more: Any) -> Value:
    """Return the mean, the sum or each of some losses; ``more`` are arguments that have to be the plain ones."""
    plain = {"ignore_index": (-100, None), "label_smoothing": (0.0, 0), "beta": (1.0, 1)}
    if any(given is not None and given not in plain.get(name, ()) for name, given in more.items()):
        raise TypeError("other arguments than the plain ones")
    if reduction == "none":
        return value
    whole = over_all(value.expression, value.shape)
    return Value(whole / math.prod(value.shape) if reduction == "mean" else whole, ())


def _pairwise(function: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    def loss(a: Value, b: Value, **more: Any) -> Value:
        return _averaged(joined(function, [a, b]), **more)

    return loss


def _nll(log_probabilities: Value, target: Value, weight: Any = None, **more: Any) -> Value:
    shape = log_probabilities.shape
    if weight is not None or len(shape) not in {1, 2} or len(target.shape) != len(shape) - 1:
        raise TypeError("only plain classes")
    taken = take(log_probabilities, [_rows(shape), target] if len(shape) > 1 else [target])
    return _averaged(Value(-taken.expression, taken.shape), **more)


def _rows(shape: tuple[int, ...]) -> Value:
    """Return the numbers of the rows of a matrix, as a tensor of indices."""
    return Value(axis(1, shape[0]) if shape[0] != 1 else sp.Integer(0), (shape[0],))


def _cross_entropy(logits: Value, target: Value, weight: Any = None, **more: Any) -> Value:
    logarithms = SHAPED["log_softmax"](logits, dim=-1)
    assert isinstance(logarithms, Value)  # noqa: S101 - it returns one tensor
    if weight is None and target.shape == logits.shape and len(logits.shape) == 2:  # noqa: PLR2004 - rows of classes
        whole = over_all(-logarithms.expression * target.expression, logits.shape)
        return _averaged(Value(whole / logits.shape[0], ()), **{**more, "reduction": _mean_only(**more)})
    return _nll(logarithms, target, weight, **more)


def _mean_only(reduction: str = "mean", **_: Any) -> str:
    if reduction != "mean":
        raise TypeError("only the mean")
    return reduction


LOSSES: dict[str, Callable[..., Value]] = {
    "mse_loss": _pairwise(lambda a, b: (a - b) ** 2),
    "l1_loss": _pairwise(lambda a, b: sp.Abs(a - b)),
    "binary_cross_entropy": _pairwise(lambda p, y: -y * sp.log(p) - (1 - y) * sp.log(1 - p)),
    "binary_cross_entropy_with_logits": _pairwise(lambda x, y: softplus(x) - x * y),
    "nll_loss": _nll,
    "cross_entropy": _cross_entropy,
}
