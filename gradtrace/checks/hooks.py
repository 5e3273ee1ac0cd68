"""Gradients that a hook changed between the op that sent them and the one that received them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradtrace.checks.base import Thresholds, check
from gradtrace.checks.stats_queries import flat, is_broken
from gradtrace.model import Finding
from gradtrace.wording.nodes import described
from gradtrace.wording.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import BackwardPass, Node, TensorStats

__all__ = ["hook_changed"]

ROUNDING = {"float16": 0.02, "bfloat16": 0.05}  # relative, of a sum of a few gradients

MODULE_HOOK = "BackwardHookFunctionBackward"


@check("hook-changed", thresholds={"hook_changed": 1e-3})
def hook_changed(graph: BackwardPass, limits: Thresholds) -> Iterator[Finding]:
    """A hook changed a gradient between where it was sent and where it arrived: before and after.

    What arrives at a node is the sum of what its edges brought. Where the two differ by more than rounding,
    a tensor hook or a node's pre-hook stood between.
    """
    for node in graph.nodes:
        if node.kind == "output" or (node.order is None and not any(node.grads)):
            continue
        for output, arrived in enumerate(node.grads):
            sent = [e.grad for e in graph.edges_into[node.id] if e.target_index == output and e.grad is not None]
            if len(sent) == 1 and sent[0] == arrived:
                continue
            told = _difference(sent, arrived, limits.hook_changed) if sent and arrived is not None else ""
            if told:
                yield _finding(node, told)
        if node.op == MODULE_HOOK:
            yield from _by_module_hook(graph, node, limits.hook_changed)


def _by_module_hook(graph: BackwardPass, node: Node, limit: float) -> Iterator[Finding]:
    """Yield what a module's backward hook changed: torch runs it on a node that passes on what it got, else."""
    for edge in graph.edges_from[node.id]:
        arrived = node.grads[edge.source_index] if edge.source_index < len(node.grads) else None
        told = _difference([arrived], edge.grad, limit) if arrived is not None and edge.grad is not None else ""
        if told:
            yield _finding(graph.by_id[edge.target], told, node.module)


def _finding(node: Node, told: str, module: str = "") -> Finding:
    whose = f"a hook of {module}" if module else "a hook"
    return Finding(
        "hook-changed", "info", f"{whose} changed the gradient on its way to {described(node)}: {told}",
        "nothing to do if that is what the hook is for; remove the handle that register_hook() gave if not",
        (node.id,), node.source or node.library,
    )  # fmt: skip


def _difference(sent: list[TensorStats], arrived: TensorStats, limit: float) -> str:
    """Return how the sum of the gradients sent differs from the one that arrived, or nothing."""
    if any(stats.note or is_broken(stats) or stats.shape != arrived.shape for stats in [*sent, arrived]):
        return ""
    limit = max(limit, *(ROUNDING.get(stats.dtype, 0.0) for stats in [*sent, arrived]))
    if all(stats.values is not None for stats in [*sent, arrived]):
        return _by_element(sent, arrived, limit)
    if len(sent) == 1:
        return _by_number(sent[0], arrived, limit)
    if any(stats.mean is None for stats in [*sent, arrived]):
        return ""
    # Means add up, norms do not; the norm bounds the effect of rounding on a mean.
    total = math.fsum(stats.mean or 0.0 for stats in sent)
    scale = max(stats.norm or 0.0 for stats in [*sent, arrived]) / math.sqrt(math.prod(arrived.shape))
    differs = abs(total - (arrived.mean or 0.0)) > limit * scale
    return f"mean {number(total)} before, {number(arrived.mean)} after" if differs else ""


def _by_element(sent: list[TensorStats], arrived: TensorStats, limit: float) -> str:
    before = [math.fsum(x or 0.0 for x in column) for column in zip(*(flat(s.values) for s in sent), strict=True)]
    after = [x or 0.0 for x in flat(arrived.values)]
    scale = max([abs(x or 0.0) for s in sent for x in flat(s.values)], default=0.0)
    if all(abs(b - a) <= limit * max(scale, abs(a)) for b, a in zip(before, after, strict=True)):
        return ""
    return f"{_list(before)} before, {_list(after)} after"


def _list(values: list[float]) -> str:
    shown = ", ".join(number(value) for value in values[:4])
    return shown if len(values) == 1 else f"[{shown}{', …' if len(values) > 4 else ''}]"  # noqa: PLR2004 - a few will do


def _by_number(sent: TensorStats, arrived: TensorStats, limit: float) -> str:
    for name in ("norm", "mean", "min", "max"):
        before, after = getattr(sent, name), getattr(arrived, name)
        scale = max(abs(sent.max or 0.0), abs(sent.min or 0.0)) if name != "norm" else sent.norm or 0.0
        if before is not None and after is not None and abs(before - after) > limit * max(scale, abs(after)):
            return f"{name} {number(before)} before, {number(after)} after"
    return ""
