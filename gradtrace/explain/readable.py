"""The common backward formulas as a person writes them: Python expressions in the names of derivatives.yaml.

``grad`` is the gradient that arrived, ``result`` what the forward computed, ``numel`` how many elements
its input had; the rest are the forward's arguments. What is no Python expression is shown as it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from gradtrace.model import BackwardPass

__all__ = ["LETTERS", "READABLE", "letters", "names_in"]

# How the arguments are written; the later letters are for a script that has tensors of the earlier names.
_LETTERS = {
    "self": "xaps", "input": "xaps", "other": "ybqr", "exponent": "nkme", "mat2": "BDQ", "mat1": "ACP", "weight": "WVU",
}  # fmt: skip
_NAME = re.compile(r"[^\W\d]\w*")
_WORDS = {"grad": "grad", "result": "result", "numel": "numel"}

_SAME = {"self": "grad"}
_EACH = ("Clone", "Alias", "ToCopy", "Sum")

READABLE: dict[str, dict[str, str]] = {
    **{f"{op}Backward0": _SAME for op in _EACH},
    "AddBackward0": {"self": "grad", "other": "grad*alpha"},
    "AddBackward1": {"self": "grad"},
    "SubBackward0": {"self": "grad", "other": "-grad*alpha"},
    "SubBackward1": {"self": "grad"},
    "RsubBackward0": {"self": "-grad*alpha", "other": "grad"},
    "RsubBackward1": {"self": "-grad*alpha"},
    "MulBackward0": {"self": "grad*other", "other": "grad*self"},
    "MulBackward1": {"self": "grad*other"},
    "DivBackward0": {"self": "grad/other", "other": "-grad*self/other**2"},
    "DivBackward1": {"self": "grad/other"},
    "PowBackward0": {"self": "grad*exponent*self**(exponent - 1)"},
    "PowBackward1": {"self": "grad*exponent*self**(exponent - 1)", "exponent": "grad*result*log(self)"},
    "PowBackward2": {"exponent": "grad*result*log(self)"},
    "NegBackward0": {"self": "-grad"},
    "ReciprocalBackward0": {"self": "-grad*result**2"},
    "SqrtBackward0": {"self": "grad/(2*result)"},
    "RsqrtBackward0": {"self": "-grad*result**3/2"},
    "ExpBackward0": {"self": "grad*result"},
    "Exp2Backward0": {"self": "grad*result*log(2)"},
    "Expm1Backward0": {"self": "grad*(result + 1)"},
    "LogBackward0": {"self": "grad/self"},
    "Log2Backward0": {"self": "grad/(self*log(2))"},
    "Log10Backward0": {"self": "grad/(self*log(10))"},
    "Log1PBackward0": {"self": "grad/(self + 1)"},
    "SinBackward0": {"self": "grad*cos(self)"},
    "CosBackward0": {"self": "-grad*sin(self)"},
    "TanBackward0": {"self": "grad*(1 + result**2)"},
    "AsinBackward0": {"self": "grad/sqrt(1 - self**2)"},
    "AcosBackward0": {"self": "-grad/sqrt(1 - self**2)"},
    "AtanBackward0": {"self": "grad/(1 + self**2)"},
    "SinhBackward0": {"self": "grad*cosh(self)"},
    "CoshBackward0": {"self": "grad*sinh(self)"},
    "TanhBackward0": {"self": "grad*(1 - result**2)"},
    "AsinhBackward0": {"self": "grad/sqrt(self**2 + 1)"},
    "AcoshBackward0": {"self": "grad/sqrt(self**2 - 1)"},
    "AtanhBackward0": {"self": "grad/(1 - self**2)"},
    "ErfBackward0": {"self": "grad*2/sqrt(pi)*exp(-self**2)"},
    "ReluBackward0": {"self": "grad*(result > 0)"},
    "AbsBackward0": {"self": "grad*sign(self)"},
    "SigmoidBackward0": {"self": "grad*result*(1 - result)"},
    "LogSigmoidBackward0": {"self": "grad*sigmoid(-self)"},
    "SoftplusBackward0": {"self": "grad*sigmoid(beta*self)"},
    "SiluBackward0": {"self": "grad*sigmoid(self)*(1 + self*(1 - sigmoid(self)))"},
    "MeanBackward0": {"self": "grad/numel"},
    "MseLossBackward0": {"self": "grad*2*(self - target)/numel", "target": "-grad*2*(self - target)/numel"},
    "ProdBackward0": {"self": "grad*result/self"},
    "MmBackward0": {"self": "grad @ mat2.T", "mat2": "self.T @ grad"},
    "BmmBackward0": {"self": "grad @ mat2.T", "mat2": "self.T @ grad"},
    "AddmmBackward0": {"self": "grad*beta", "mat1": "grad @ mat2.T*alpha", "mat2": "mat1.T @ grad*alpha"},
    "MvBackward0": {"self": "outer(grad, vec)", "vec": "self.T @ grad"},
    "DotBackward0": {"self": "grad*tensor", "tensor": "grad*self"},
    "TBackward0": {"self": "grad.T"},
    "TransposeBackward0": {"self": "grad.T"},
    "WhereBackward0": {"self": "where(condition, grad, 0)", "other": "where(condition, 0, grad)"},
    "ViewBackward0": {"self": "grad, in the shape of x"},
    "UnsafeViewBackward0": {"self": "grad, in the shape of x"},
    "ReshapeAliasBackward0": {"self": "grad, in the shape of x"},
    "UnsqueezeBackward0": {"self": "grad, in the shape of x"},
    "SqueezeBackward0": {"self": "grad, in the shape of x"},
    "SqueezeBackward1": {"self": "grad, in the shape of x"},
    "ExpandBackward0": {"self": "Σ grad over the elements that x was repeated to"},
    "SumBackward1": {"self": "grad, repeated to the shape of x"},
    "MeanBackward1": {"self": "grad, repeated to the shape of x, over how many were averaged"},
    "SelectBackward0": {"self": "grad at the element taken, 0 elsewhere"},
    "SliceBackward0": {"self": "grad at the elements taken, 0 elsewhere"},
    "IndexBackward0": {"self": "grad at the elements taken, 0 elsewhere"},
    "GatherBackward0": {"self": "grad at the elements taken, 0 elsewhere"},
    "EmbeddingBackward0": {"weight": "Σ grad over the places where each row was taken"},
    "PermuteBackward0": {"self": "grad, with its axes back in their places"},
    "MaxBackward1": {"self": "grad at the largest, shared among equals, 0 elsewhere"},
    "MinBackward1": {"self": "grad at the smallest, shared among equals, 0 elsewhere"},
    "NllLossBackward0": {"self": "-grad at the class of each row (over how many, for a mean), 0 elsewhere"},
    "CatBackward0": {"tensors": "the part of grad that came from it"},
    "StackBackward0": {"tensors": "the part of grad that came from it"},
    "SoftmaxBackward0": {"self": "result*(grad - Total(grad*result))"},
    "LogSoftmaxBackward0": {"self": "grad - exp(result)*Total(grad)"},
}


def letters(taken: Collection[str] = ()) -> dict[str, str]:
    """Return how each argument is written, by none of the names that the script has ``taken``.

    >>> letters()["self"], letters({"x"})["self"], letters({"grad"})["grad"]
    ('x', 'a', 'grad0')
    """
    tries = {**_LETTERS, **{name: [word] for name, word in _WORDS.items()}}
    return {name: next((each for each in given if each not in taken), f"{given[0]}0") for name, given in tries.items()}


def names_in(graph: BackwardPass) -> set[str]:
    """Return all names that occur in the code of a pass, or that its tensors have."""
    code = (each.text for node in graph.nodes for each in (node.source, node.library) if each)
    return {name for text in (*code, *(node.name for node in graph.nodes)) for name in _NAME.findall(text)}


LETTERS = letters()
