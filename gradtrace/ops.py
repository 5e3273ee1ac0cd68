"""PyTorch's ops, one entry each: where the derivative is zero and why, what masks and what writes.

Where a derivative has no bound stands in ``singularities.py``. To add an op: one entry, by the name of its backward
without ``Backward0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ELEMENTWISE", "OPS", "Op", "call_name", "op_name", "op_of"]


class Op(Struct, frozen=True):
    """Facts of an op.

    Args:
        inverse: its input from its result, where the result is all that it saves.
        writes: whether it writes values that the script gives, an infinity among them, such as a mask's.
        masks: whether a zero that it sends means that the element was masked.
        sparse: whether its gradient has zeros by nature, which are no underflow.
        saturates: whether its gradient can be zero everywhere, which is no underflow.
        flat: why its gradient is zero, where all of it is.
        slope: what to do about that, where it is not the usual.
    """

    inverse: Callable[[float], float] | None = None
    writes: bool = False
    masks: bool = False
    sparse: bool = False
    saturates: bool = False
    flat: str = ""
    slope: str = ""


_DEEP = "all its inputs were far below zero"
_WITHIN = "all its inputs were inside its limits"
_ENDS = "it is saturated: its output is ±1"
_STEP = "has a derivative of zero everywhere"

OPS: dict[str, Op] = {
    # Their input from their result, which is all that they save.
    "Sqrt": Op(inverse=lambda y: y * y),
    "Rsqrt": Op(inverse=lambda y: y**-2),
    "Reciprocal": Op(inverse=lambda y: 1 / y),
    # A derivative of zero where they are flat.
    "Softmax": Op(
        saturates=True,
        flat="it is saturated: one of its outputs is 1",
    ),
    "LogSoftmax": Op(saturates=True),
    "Relu": Op(
        masks=True,
        sparse=True,
        flat="all its inputs were negative: a dead ReLU",
        slope="lower the learning rate, check the bias and the scale of the input, or use LeakyReLU or GELU",
    ),
    "Round": Op(
        saturates=True,
        flat=f"rounding {_STEP}",
        slope="use a straight-through estimator: x + (x.round() - x).detach()",
    ),
    "Ceil": Op(saturates=True, flat=f"ceil {_STEP}"),
    "Floor": Op(saturates=True, flat=f"floor {_STEP}"),
    "Sign": Op(saturates=True, flat=f"sign {_STEP}"),
    "Trunc": Op(flat=f"trunc {_STEP}"),
    "Clamp": Op(masks=True, sparse=True, flat="all its inputs were outside the limits of the clamp"),
    "ClampMax": Op(masks=True, flat="all its inputs were above the limit"),
    "ClampMin": Op(masks=True, flat="all its inputs were below the limit"),
    "Threshold": Op(masks=True, sparse=True, flat="all its inputs were below the threshold"),
    "Maximum": Op(masks=True, flat="the other operand was the larger one everywhere"),
    "Minimum": Op(masks=True, flat="the other operand was the smaller one everywhere"),
    "Hardtanh": Op(sparse=True, flat="all its inputs were outside its limits"),
    "Hardsigmoid": Op(flat="all its inputs were outside [-3, 3]"),
    "Hardswish": Op(flat="all its inputs were below -3"),
    "Hardshrink": Op(flat=_WITHIN),
    "Softshrink": Op(flat=_WITHIN),
    "Sigmoid": Op(saturates=True, flat="it is saturated: its output is 0 or 1 to the last bit"),
    "LogSigmoid": Op(flat="all its inputs were far above zero"),
    "Tanh": Op(saturates=True, flat=_ENDS),
    "Erf": Op(saturates=True, flat=_ENDS),
    "Gelu": Op(saturates=True, flat=_DEEP),
    "Silu": Op(saturates=True, flat=_DEEP),
    "Elu": Op(flat=_DEEP),
    "Mish": Op(flat=_DEEP),
    "Softplus": Op(flat=_DEEP),
    # Elements chosen, moved, masked or written: the others get zeros.
    "Where": Op(writes=True, masks=True, sparse=True),
    "MaskedFill": Op(writes=True, masks=True, sparse=True),
    "CopySlices": Op(writes=True, masks=True, sparse=True),
    "IndexFill": Op(writes=True, masks=True),
    "IndexPut": Op(writes=True, masks=True),
    "MaskedScatter": Op(writes=True, masks=True),
    "Add": Op(writes=True),
    "Sub": Op(writes=True),
    "Fill": Op(writes=True),
    "Clone": Op(writes=True),
    "Mul": Op(masks=True, sparse=True),
    "Index": Op(masks=True, sparse=True),
    "Select": Op(masks=True, sparse=True),
    "Slice": Op(masks=True, sparse=True),
    "MaskedSelect": Op(masks=True),
    "NanToNum": Op(masks=True),
    "Nansum": Op(masks=True),
    **dict.fromkeys(
        (
            *("Abs", "Amax", "Amin", "Cat", "ConstantPadNd", "Embedding", "Gather", "LeakyRelu"),
            *("Max", "MaxPool2DWithIndices", "Min", "NativeDropout", "NllLoss", "Sgn", "Sort", "Topk"),
        ),
        Op(sparse=True),
    ),
    "Dropout": Op(sparse=True),  # which PyTorch has no node for, and scripts have Functions of
}
_UNLISTED = Op()


def op_name(op: str) -> str:
    """Return the name of a node's op without PyTorch's ending.

    >>> op_name("SqrtBackward0"), op_name("AccumulateGrad"), op_name("MyBackward")
    ('Sqrt', 'AccumulateGrad', 'My')
    """
    stem = op.rstrip("0123456789")
    return stem.removesuffix("Backward") if stem.endswith("Backward") else op


def op_of(op: str) -> Op:
    """Return what is known of a node's op.

    >>> op_of("RoundBackward0").flat
    'rounding has a derivative of zero everywhere'
    """
    return OPS.get(op_name(op).removeprefix("_"), _UNLISTED)


# Functions of PyTorch by one name each; those of the second table take their operands in the other order.
_ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "truediv": "div", "true_divide": "div", "itruediv": "div",
    "idiv": "div", "iadd": "add", "isub": "sub", "imul": "mul", "ipow": "pow", "float_power": "pow", "arccos": "acos",
    "arcsin": "asin", "arccosh": "acosh", "arctanh": "atanh", "special_logit": "logit", "mod": "remainder",
}  # fmt: skip
_SWAPPED = {"rsub": "sub", "rdiv": "div", "rtruediv": "div", "rpow": "pow", "rmod": "remainder"}
_COMMUTES = {"radd": "add", "rmul": "mul"}
# Functions that compute each element of their result from the elements at the same place.
ELEMENTWISE = frozenset(
    """abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh clamp cos cosh div erf erfinv exp exp2 expm1 fmod
    lerp lgamma log log10 log1p log2 logit mul neg pow reciprocal relu remainder rsqrt sigmoid sin sinh sqrt square
    sub tan tanh where masked_fill maximum minimum""".split()  # noqa: SIM905 - which is easier to read
)


def call_name(name: str) -> tuple[str, bool]:
    """Return one name for all spellings of a function, and whether this one takes its operands the other way round.

    >>> call_name("__truediv__"), call_name("__rpow__"), call_name("log_")
    (('div', False), ('pow', True), ('log', False))
    """
    stem = name.strip("_")
    if stem in _SWAPPED:
        return _SWAPPED[stem], True
    stem = _COMMUTES.get(stem, stem)
    return _ALIASES.get(stem, stem), False
