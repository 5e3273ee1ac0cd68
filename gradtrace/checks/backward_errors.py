"""PyTorch's errors in backward, told in the script's terms: which line, which tensor, what to write instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.how_detached import way
from gradtrace.model import CHANGED, FREED, Finding
from gradtrace.wording.nodes import as_tuple, described, first_few, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Fact, Source, Trace

__all__ = ["backward_twice", "modified_in_place", "no_grad_output", "not_scalar", "unused_input"]

VERSIONS = re.compile(r"is at version (\d+); expected version (\d+)")
UNUSED = re.compile(r"Tensors? at index (\d+)|differentiated Tensors appears to not have been used")
OUT_OF_PLACE = {
    "__iadd__": "x = x + y", "__isub__": "x = x - y", "__imul__": "x = x * y", "__itruediv__": "x = x / y",
    "__setitem__": "torch.where(mask, new, x), or collect in a list and torch.stack() it, or x = x.clone() before",
    "zero_": "x = torch.zeros_like(x)", "fill_": "x = torch.full_like(x, value)", "copy_": "x = y.clone()",
    "normal_": "x = torch.randn_like(x)", "uniform_": "x = torch.rand_like(x)",
    "relu_": "nn.ReLU(inplace=False)",
}  # fmt: skip
AGAIN = (
    "compute the loss again before each backward(), or pass retain_graph=True to the first call; for a second "
    "derivative use autograd.grad(..., create_graph=True)"
)
TIED = (
    "detach() it there if the earlier graph should not be trained through (the state of an RNN, a fixed target); "
    "add the losses and call backward() once if it should; or compute it again for each pass"
)
NO_GRAPH = (
    "nothing that it was computed from requires grad, or its value left torch on the way (.item(), .tolist(), "
    ".numpy(), torch.tensor(...))"
)
RENORMALIZED = "use a copy (emb.weight.clone()) where the weight itself goes into the graph, or look up the rows first"
UNCUT = "compute the loss from tensors that require grad, without detach(), .data, no_grad() or argmax on the way"

THAW = "leave requires_grad on where training should go on: the new head at least; a frozen net alone has no gradient"
HIGHER = {
    "grad": "pass create_graph=True there, so that the gradient has a graph for a second derivative",
    "lost-grad": "write that Function's backward with differentiable torch ops on ctx.saved_tensors",
}


@check("modified-in-place", raises=True)
def modified_in_place(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """A tensor that backward needs was changed in place: who saved it, who changed it, what to write instead."""
    error = graph.error
    if error is None or CHANGED not in error.message:
        return
    fact = _fact(graph, "changed")
    saver = graph.by_id.get(error.node or "")
    match = VERSIONS.search(error.message)
    versions = f" (version {match[2]} was saved, it is at {match[1]} now)" if match else ""
    whose = described(saver) if saver else "an op"
    told = f"{whose} saved a tensor for backward, which was changed in place later{versions}"
    op = str(fact.data.get("op", "")) if fact else ""
    if fact is not None and fact.source is not None:
        what = "an assignment to" if op == "__setitem__" else f"{op} in"
        if op == "embedding":
            what = "max_norm, with which the embedding scales its weight in place, in"
        told += f". The change: {what} {quoted(fact.source)}"
    spelling = OUT_OF_PLACE.get(op) or _out_of_place(op)
    hint = RENORMALIZED if op == "embedding" else f"write {spelling}, so that the saved tensor stays as it was"
    if fact is not None and fact.source is not None and ".step(" in fact.source.text:
        hint = "call optimizer.step() only after every backward() that needs the old weights, or run the forward again"
    source = fact.source if fact is not None and fact.source is not None else saver.source if saver else error.source
    yield Finding("modified-in-place", "error", told, hint, (saver.id,) if saver else (), source)


def _out_of_place(op: str) -> str:
    if op.endswith("(out=...)"):
        return f"x = torch.{op.removesuffix('(out=...)')}(...) without out="
    return f"x = x.{op.removesuffix('_')}(...)" if op else "the out-of-place op"


@check("backward-twice", raises=True)
def backward_twice(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """Backward through a graph that an earlier call has freed: which call, and what ties the two together."""
    error = graph.error
    if error is None or FREED not in error.message:
        return
    fact = _fact(graph, "freed")
    failed = (error.node,) if error.node else ()
    if fact is None:
        yield Finding(
            "backward-twice", "error", "this pass needs a graph that was freed before it was recorded",
            "pass retain_graph=True to the earlier call, or compute the forward again", failed, error.source,
        )  # fmt: skip
        return
    earlier = f"pass {fact.data['pass']}, {quoted(fact.source)}"
    if fact.data.get("same"):
        told = f"the same graph was run before and freed by {earlier}"
        hint = AGAIN
    else:
        ties = first_few(_tie(graph, node) for node in fact.nodes)
        told = f"a part of this graph was freed by {earlier}: both passes go through {ties}"
        hint = TIED
    yield Finding("backward-twice", "error", told, hint, (*failed, *fact.nodes), error.source)


def _tie(graph: BackwardPass, node_id: str) -> str:
    node = graph.by_id[node_id]
    return f"{node.name!r}, made by {described(node)}" if node.name else described(node)


@check("no-grad-output", raises=True)
def no_grad_output(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """Backward was started at a tensor without a graph: where the graph was cut."""
    error = graph.error
    if error is None or "does not require grad and does not have" not in error.message:
        return
    output = next((node for node in graph.nodes if node.kind == "output"), None)
    name = output.name if output and output.name else "the tensor"
    cut, frozen = _fact(graph, "cut"), _fact(graph, "frozen")
    if cut is not None and cut.source is not None:
        how = str(cut.data["how"])
        told = f"{name} has no graph to go back through: it comes from {quoted(cut.source)}, which {way(how)}"
        if how in HIGHER:
            yield Finding("no-grad-output", "error", told, HIGHER[how], (output.id,) if output else (), cut.source)
            return
        source: Source | None = cut.source
    elif frozen is not None:
        listed = first_few(map(str, frozen.data["names"]) if isinstance(frozen.data["names"], list) else ())
        told = (
            f"{name} has no graph to go back through: every parameter that the forward used is frozen ({listed} have "
        )
        told += "requires_grad=False" + (f", set at {quoted(frozen.source)})" if frozen.source else ")")
        yield Finding("no-grad-output", "error", told, THAW, (output.id,) if output else (), error.source)
        return
    else:
        told = f"{name} has no graph to go back through: {NO_GRAPH}"
        source = error.source
    yield Finding("no-grad-output", "error", told, UNCUT, (output.id,) if output else (), source)


@check("unused-input", raises=True)
def unused_input(graph: BackwardPass, _: Thresholds) -> Iterator[Finding]:
    """An input given to autograd.grad() that the output does not depend on: which one."""
    error = graph.error
    if error is None or not UNUSED.search(error.message) or "used in the graph" not in error.message:
        return
    facts = [fact for fact in graph.facts if fact.kind == "unused"]
    named = first_few(
        f"{fact.data['name'] or 'an unnamed tensor'} of shape {as_tuple(fact.data['shape'])}" for fact in facts
    )
    outputs = first_few(node.name or "the output" for node in graph.nodes if node.kind == "output")
    yield Finding(
        "unused-input", "error", f"{outputs} does not depend on {named or 'one of the inputs'}",
        "give grad() the very tensor that the forward used (a view, a copy or x.to(...) of it is another one), or "
        "pass allow_unused=True and expect None", (), error.source,
    )  # fmt: skip


@check("not-scalar", whole=True, raises=True)
def not_scalar(trace: Trace, _: Thresholds) -> Iterator[Finding]:
    """Backward was started at a tensor of more than one element without a gradient: its shape."""
    error = trace.error
    if error is None or "implicitly created only for scalar outputs" not in error.message:
        return
    fact = next((fact for fact in trace.facts if fact.kind == "not-scalar"), None)
    name = str(fact.data["name"] or "the tensor") if fact else "the tensor"
    shape = f" has the shape {as_tuple(fact.data['shape'])}" if fact else " has more than one element"
    yield Finding(
        "not-scalar", "error", f"{name}{shape}, and backward() starts by itself only from one element",
        f"reduce it ({name if name.isidentifier() else 'loss'}.mean() or .sum()), or give backward(gradient=...) one "
        "weight for each element", (), error.source,
    )  # fmt: skip


def _fact(graph: BackwardPass, kind: str) -> Fact | None:
    return next((fact for fact in graph.facts if fact.kind == kind), None)
