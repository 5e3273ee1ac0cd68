"""Errors of autograd, each with what it means and what to write instead; docs/checks.md has them as a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.checks.base import Thresholds, check
from gradtrace.model import Finding
from gradtrace.wording.nodes import described, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, ErrorInfo, Node, Source, Trace

__all__ = ["MESSAGES", "AutogradError", "Message"]


class Message(NamedTuple):
    """A message of autograd: a part of it as an expression, what it means, and what to write instead.

    ``at_node``: the fault lies in the op at which the pass failed, not in the call of backward.
    """

    pattern: str
    meaning: str
    instead: str
    at_node: bool = False


_CLONE = "clone it outside of inference_mode() (x.clone()), or compute it under torch.no_grad() instead"
_OUT_OF_PLACE = "write it out of place (x = x + 1), or change x.clone()"
_UPDATE = "to update a parameter, do it under torch.no_grad(); to compute with it, write it out of place (y = x + 1)"
_RETURN = "return one gradient for each argument of forward(), in its order and of its shape, and None for others"

MESSAGES = (
    Message(
        r"derivative for aten::_(scaled_dot_product|efficient_attention|flash_attention|cudnn)\w*_backward is not",
        "this fused attention has a first derivative and no second one, which create_graph=True asks for",
        "run the forward with the plain kernel: with sdpa_kernel(SDPBackend.MATH): ... (torch.nn.attention)",
        at_node=True,
    ),
    Message(
        r"derivative for aten::\w+ is not implemented",
        "PyTorch has no derivative of this op, or none of its first derivative (create_graph=True)",
        "compose it of ops that have one, give it a custom Function, or detach() what needs no gradient there",
        at_node=True,
    ),
    Message(
        r"the derivative for '[^']+' is not implemented",
        "PyTorch has no derivative by this argument, and it requires grad",
        "detach() that argument, or use another op for it (a soft target goes into cross_entropy as probabilities)",
        at_node=True,
    ),
    Message(
        r"(?<!view of )a leaf Variable that requires grad (is being|has been) used in an in-place",
        "it changes a leaf in place: the value that the gradient belongs to would be lost",
        _UPDATE,
    ),
    Message(
        r"a view of a leaf Variable that requires grad is being used in an in-place",
        "it changes a part of a leaf in place: x[0] and x.view(...) are the leaf itself",
        _UPDATE,
    ),
    Message(
        r"[Ii]nference tensors? ",
        "a tensor made under torch.inference_mode() went into a computation with gradients, which it can't be part of",
        _CLONE,
    ),
    Message(
        r"is a view and is being modified inplace|view was created in no_grad mode and is being modified inplace",
        "it changes a view in place that autograd can't follow: one of several (unbind, split, chunk), one from a "
        "custom Function, or one made under no_grad()",
        _OUT_OF_PLACE,
    ),
    Message(
        r"returned an incorrect number of gradients|returned an invalid gradient at index",
        "the backward of a custom Function, or a hook, gave a gradient of another number or shape than its inputs have",
        _RETURN,
        at_node=True,
    ),
    Message(
        r"differentiate twice a function that was marked with @once_differentiable",
        "a custom Function marked once_differentiable was asked for a second derivative",
        "write its backward with differentiable torch ops, without once_differentiable",
        at_node=True,
    ),
    Message(
        r"Mismatch in shape: grad_output\[\d+\] has a shape of|Mismatch in dtype: grad_output",
        "the gradient given to backward() or grad() has not the shape or the dtype of its output",
        "give one weight for each element of the output: torch.ones_like(output)",
    ),
    Message(
        r"One of the differentiated Tensors does not require grad",
        "grad() was asked for an input that does not require grad",
        "call x.requires_grad_() before the forward, and give grad() that same tensor",
    ),
    Message(
        r"you can only change requires_grad flags of leaf variables",
        "requires_grad of a computed tensor can't be switched off: it follows from what it is computed of",
        "use h.detach() to stop gradients there, or freeze the parameters that it is computed of",
    ),
    Message(
        r"can't optimize a non-leaf Tensor",
        "an optimizer was given a computed tensor: x.to(...), x.cuda() or x * 0.1 of a parameter is another tensor",
        "make the leaf last: x = torch.randn(3, device=device).requires_grad_(), nn.Parameter(x.to(device))",
    ),
    Message(
        r"Only Tensors of floating point and complex dtype can require gradients",
        "integers and booleans have no derivative, and so can't require grad",
        "make it floating point first (x.float(), torch.tensor([1., 2.]))",
    ),
    Message(
        r"Can't call numpy\(\) on Tensor that requires grad",
        "NumPy keeps no graph, so a tensor with one is not given to it",
        "x.detach().cpu().numpy() for plotting; stay with torch ops where gradients should come back",
    ),
    Message(
        r"cannot register a hook on a (tensor|variable) that doesn't require grad|can't retain_grad on Tensor that has",
        "there will be no gradient for this tensor: it does not require grad",
        "look at where its graph was lost (detach, no_grad, .data), or call requires_grad_() before the forward",
    ),
    Message(
        r"Only Tensors created explicitly by the user \(graph leaves\) support the deepcopy",
        "a computed tensor with its graph can't be copied by deepcopy",
        "keep h.detach() in the module or the object that is copied, and no computed tensor",
    ),
    Message(
        r"Trying to use a saved tensor that has been detached in-place",
        "detach_() took the graph from a tensor that backward still needs",
        "use x = x.detach(), which leaves the first one as it is",
    ),
    Message(
        r"grad can be computed only for real scalar outputs|grad can be implicitly created only for real",
        "backward() starts by itself only from a real number, and this output is complex",
        "reduce it to a real number first: loss.abs(), loss.real, (z * z.conj()).real",
    ),
    Message(
        r"Function '?\w+'? returned nan values in its \d+th output",
        "anomaly mode stopped at the first op whose gradient is NaN",
        "run the script once without set_detect_anomaly(): then nonfinite-origin names the element and the reason",
    ),
    Message(
        r"svd_backward|linalg_eig\w*_backward|singular vectors in the complex case|eigenvectors in the complex case",
        "the loss depends on the phase or the sign of singular or eigenvectors, which is not defined",
        "differentiate what does not depend on it: the singular values, projectors U U^H, or A itself",
        at_node=True,
    ),
    Message(
        r"save_for_backward can only save variables|Legacy autograd function with non-static forward",
        "a custom Function is not written as PyTorch asks: static methods, and save_for_backward for tensors alone",
        "keep tensors by ctx.save_for_backward(...), other things as attributes of ctx, and make both methods static",
    ),
    Message(
        r"Some elements marked as dirty",
        "a custom Function changed an input in place and did not return it",
        "call ctx.mark_dirty(x) and return that same x",
    ),
)


@check("autograd-error", along=True, raises=True)
class AutogradError:
    """An error of autograd that ended the script: what it means, on which line, and what to write instead."""

    def __init__(self, _: Thresholds) -> None:
        self._failed: dict[str, tuple[Node, int]] = {}
        self._explained: set[str] = set()

    def see(self, graph: BackwardPass) -> Iterator[Finding]:
        """Remember the node at which a pass failed."""
        error = graph.error
        if error is not None and error.node in graph.by_id:
            self._failed[error.message] = _with_line(graph, graph.by_id[error.node], error.message), graph.index
        if error is not None and any(fact.kind == "broken-gradient" for fact in graph.facts):
            self._explained.add(error.message)  # anomaly mode: nonfinite-origin has the details
        yield from ()

    def found(self, trace: Trace) -> Iterator[Finding]:
        """Yield the explanation of the error that ended the script."""
        if trace.error is None or trace.error.message in self._explained:
            return
        message = next((m for m in MESSAGES if re.search(m.pattern, trace.error.message)), None)
        if message is not None:
            yield self._told(trace.error, message)

    def _told(self, error: ErrorInfo, message: Message) -> Finding:
        node, index = self._failed.get(error.message, (None, 0))
        source: Source | None = error.source
        told = f"{quoted(source)}: {message.meaning}" if source is not None else message.meaning
        nodes: tuple[str, ...] = ()
        if message.at_node and node is not None and (node.source or node.library) is not None:
            source, nodes = node.source or node.library, (node.id,)
            told = f"{described(node)}: {message.meaning}"
        return Finding("autograd-error", "error", told, message.instead, nodes, source, index)


def _with_line(graph: BackwardPass, node: Node, message: str) -> Node:
    """Return the failed node; for one that no call made, the node of the op that the message names."""
    named = re.search(r"aten::_*(\w+?)(_backward)? is not", message)
    op = named[1].replace("_", "") if named else ""
    return next((n for n in graph.nodes if op and n.op.lower().lstrip("_").startswith(op) and n.source), node)
