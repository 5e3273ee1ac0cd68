"""PyTorch's ops, one entry each: where the derivative has no bound or is zero, and what helps.

The checks read their reasons and remedies here, the recorder how to compute a value again. An op that is not
listed has a bounded derivative as far as is known. To add a reason: one entry, by the name of the op's
backward without ``Backward0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPS", "Op", "op_name", "op_of"]


class Op(Struct, frozen=True):
    """What is known of an op.

    Args:
        pole: where its derivative is infinite, in a sentence.
        domain: where its value is not finite, and what to do about that.
        remedy: what keeps its derivative finite.
        least: the input below which it has no derivative at all.
        inverse: its input from its result, where the result is all that it saves.
        recompute: the function of ``torch`` that computes its value from the ``self`` that it saves.
        writes: whether it writes values that the script gives, an infinity among them, such as a mask's.
        masks: whether a zero that it sends means that the element was masked.
        sparse: whether its gradient has zeros by nature, which are no underflow.
        saturates: whether its gradient can be zero everywhere, which is no underflow.
        flat: why its gradient is zero, where all of it is.
        slope: what to do about that, where it is not the usual.
    """

    pole: str = ""
    domain: str = ""
    remedy: str = ""
    least: float | None = None
    inverse: Callable[[float], float] | None = None
    recompute: str = ""
    writes: bool = False
    masks: bool = False
    sparse: bool = False
    saturates: bool = False
    flat: str = ""
    slope: str = ""

    @property
    def is_singular(self) -> bool:
        """Whether its derivative or its value is known not to be finite somewhere."""
        return bool(self.pole or self.domain or self.remedy)


_DEEP = "all its inputs were far below zero"
_WITHIN = "all its inputs were inside its limits"
_ENDS = "it is saturated: its output is ±1"
_STEP = "has a derivative of zero everywhere"
_CLAMP = "x.clamp(-1 + eps, 1 - eps)"
_PERTURB = "perturb the matrix a little, or"

OPS: dict[str, Op] = {
    # An infinite derivative or value somewhere.
    "Sqrt": Op(
        pole="sqrt at 0 has the derivative 1/(2·sqrt(0)) = infinity",
        domain="sqrt of a negative number is NaN: clamp its input at 0 (rounding makes small negatives)",
        remedy="torch.sqrt(x + eps), or x.clamp(min=eps).sqrt()",
        least=0.0,
        inverse=lambda y: y * y,
    ),
    "Rsqrt": Op(
        pole="rsqrt at 0 has the derivative -1/2 · 0^(-3/2) = infinity",
        domain="rsqrt of 0 is infinite: add eps",
        remedy="add eps inside",
        inverse=lambda y: y**-2,
    ),
    "Log": Op(
        pole="log at 0 has the derivative 1/0 = infinity",
        domain="log of 0 is -infinity, of a negative number NaN: torch.log(x.clamp(min=eps)), or log_softmax / "
        "binary_cross_entropy_with_logits on the logits",
        remedy="torch.log(x.clamp(min=eps)), or log_softmax on the logits",
        least=0.0,
        recompute="log",
    ),
    "Div": Op(
        pole="dividing by 0 has the derivative 1/0 = infinity",
        domain="a division by 0: add eps to the denominator, or replace its zeros before dividing",
        remedy="replace the zeros of the denominator before dividing: x / torch.where(d == 0, 1, d)",
    ),
    "Reciprocal": Op(
        pole="1/x at 0 has the derivative -1/0² = infinity",
        domain="1/0 is infinite: add eps",
        remedy="add eps to x",
        inverse=lambda y: 1 / y,
    ),
    "Pow": Op(
        pole="a power below 1 has an infinite derivative at 0: p·0^(p-1)",
        domain="0 to a negative power is infinite, a negative number to a fractional power is NaN: clamp the base",
        remedy="clamp the base above 0: x.clamp(min=eps) ** p",
    ),
    "Std": Op(
        domain="the standard deviation of a single element is NaN: use correction=0, or more elements",
        remedy="torch.sqrt(x.var() + eps)",
    ),
    "Exp": Op(
        pole="exp overflows: its derivative is its own value",
        domain="exp overflows above 88 in float32 (11 in float16): subtract the maximum first, or use logsumexp / "
        "softmax / log1p",
        remedy="subtract the maximum first, or clamp the argument",
    ),
    "Acos": Op(
        pole="acos at ±1 has the derivative -1/sqrt(1-1) = infinity",
        domain="acos outside [-1, 1] is NaN: clamp",
        remedy=_CLAMP,
        recompute="acos",
    ),
    "Asin": Op(
        pole="asin at ±1 has the derivative 1/sqrt(1-1) = infinity",
        domain="asin outside [-1, 1] is NaN: clamp",
        remedy=_CLAMP,
        recompute="asin",
    ),
    "LinalgEigh": Op(
        pole="eigh's derivative divides by differences of eigenvalues, and two of them are equal",
        remedy=f"{_PERTURB} differentiate something that does not depend on the vectors",
    ),
    "LinalgSvd": Op(
        pole="svd's derivative divides by differences of singular values, and two of them are equal",
        remedy=f"{_PERTURB} use only the singular values",
    ),
    "Sinh": Op(domain="sinh overflows: clamp its argument", recompute="sinh"),
    # Computed again from what they save, to find the element that broke.
    "Acosh": Op(recompute="acosh"),
    "Atanh": Op(recompute="atanh"),
    "Cosh": Op(recompute="cosh"),
    "Lgamma": Op(recompute="lgamma"),
    "Log10": Op(recompute="log10"),
    "Log1P": Op(recompute="log1p"),
    "Log2": Op(recompute="log2"),
    "Logit": Op(recompute="logit"),
    # A derivative of zero where they are flat.
    "Softmax": Op(
        domain="softmax of a row that is all -infinity (everything masked) is NaN: leave one element unmasked, or "
        "replace the row afterwards with torch.where on the input",
        saturates=True,
        flat="it is saturated: one of its outputs is 1",
    ),
    "LogSoftmax": Op(
        domain="log_softmax of a row that is all -infinity is NaN: leave one element unmasked", saturates=True
    ),
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
