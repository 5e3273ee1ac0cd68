"""Phrases of a picture: its title, its alt text, what a gradient is called, where a node came from."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote

from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import stats
from gradtrace.wording.quoting import code_line, escaped, one_line, shorten

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass, Node, Report, TensorStats

__all__ = [
    "accumulated",
    "alt_text",
    "called",
    "derivative_of",
    "differentiated",
    "explained",
    "expression",
    "gradient",
    "href",
    "note",
    "positions",
    "title",
]

LONGEST_NAME = 100  # characters of a script's name
LONGEST_SYMBOL = 12  # characters of a name in ∂f/∂v, which no path such as net.0.bias is
LONGEST_LINK = 8_000  # characters: Graphviz reads 16 KB of text at most, and no browser so long an address
COMPILED = "torch.compile made this one node; TORCH_COMPILE_DISABLE=1 in the environment shows what is inside"
MOST_LEAVES = 12  # leaves in the alt text


def title(report: Report) -> str:
    """Return the title: the script, and the pass shown."""
    graph = report.graph
    made = max(graph.index, report.trace.made)
    which = f" {graph.index:,} of {made:,}" if made > 1 else ""
    parts = [
        shorten(one_line(PurePath(report.trace.command[0]).name), LONGEST_NAME) if report.trace.command else "",
        f"{'autograd.grad' if graph.kind == 'grad' else 'backward'} pass{which}",
        f"inside pass {graph.parent}" if graph.parent else "",
        f"rank {graph.rank} of {report.trace.world.size}" if report.trace.world is not None else "",
        "seeded by gradtrace" if graph.kind == "seeded" else "",
    ]
    return " · ".join(filter(None, parts))


def alt_text(report: Report) -> str:
    """Return the alt text: each output's value and each leaf's gradient."""
    graph = report.graph
    of = differentiated(graph)
    outputs = [f"{called(node)} = {_first(node.values)}" for node in graph.nodes if node.kind == "output"]
    leaves = sorted((node for node in graph.nodes if node.kind == "leaf"), key=lambda node: (node.name, node.id))
    lines = [*outputs, *(_told(node, of) for node in leaves)]
    rest = [f"and {len(lines) - MOST_LEAVES} more"] if len(lines) > MOST_LEAVES else []
    error = [f"stopped by {one_line(graph.error.type)}"] if graph.error else []
    return f"{title(report)}: {'; '.join([*lines[:MOST_LEAVES], *rest, *error])}"


def differentiated(graph: BackwardPass) -> str:
    """Return f where every gradient is a ∂f/∂…: one named output of one element, seeded with 1; else nothing."""
    outputs = [node for node in graph.nodes if node.kind == "output"]
    if len(outputs) != 1 or len(outputs[0].name) > LONGEST_SYMBOL:
        return ""
    seed = next(iter(outputs[0].grads), None)
    return one_line(outputs[0].name) if seed and seed.mean == 1 and math.prod(seed.shape) == 1 else ""


def gradient(node: Node, of: str) -> str:
    """Return the label of a node's gradient: ``∂f/∂v =``, or ``grad`` where that has no meaning."""
    seed = "seed " if node.kind == "output" else ""
    symbol = (
        "" if node.kind == "function" or "." in node.name or len(node.name) > LONGEST_SYMBOL else one_line(node.name)
    )
    if of and symbol:
        return f"{seed}∂{of}/∂{symbol} ="
    return seed.strip() or "grad"


def expression(node: Node) -> str:
    """Return the code that made a node, whole and on one line; the library's where that made it."""
    source = node.library if node.library and node.library.text else node.source
    return code_line(source.text) if source else ""


def derivative_of(node: Node) -> str:
    """Return ``derivative of`` for a node that a backward pass made: its code is that of what was differentiated."""
    return "derivative of " if node.origin else ""


def explained(node: Node) -> str:
    """Return the code of a node, or the code that it is the derivative of."""
    code = expression(node)
    return f"{derivative_of(node)}{code}" if code else ""


def positions(node: Node) -> str:
    """Return the source of a node: ``model.py:6``, and behind an arrow the caller of a library."""
    return " ← ".join(position(source) for source in (node.library, node.source) if source)


def accumulated(node: Node) -> str:
    """Return what a leaf's ``.grad`` held after what arrived was added to it: ``arrived, .grad 12``."""
    return f" arrived, .grad {stats(node.accumulated)}" if node.accumulated else ""


def called(node: Node) -> str:
    """Return a node's name, or its op."""
    return one_line(node.name) or (node.op if node.kind == "function" else node.kind)


def href(node: Node, template: str) -> dict[str, str]:
    """Return the link of a node's box, after a template such as ``https://host/{file}#L{line}``; none by default."""
    source = node.source or node.library
    if not template or source is None:
        return {}
    link = template.replace("{file}", quote(source.filename, errors="replace")).replace("{line}", str(source.line))
    found = escaped(link, 2)
    return {"href": found, "target": "_blank"} if len(found) <= LONGEST_LINK else {}


def note(node: Node) -> str:
    """Return the note on an op whose name misleads."""
    if node.op == "CompiledFunctionBackward":
        return COMPILED
    if node.origin is None:
        return ""
    of = expression(node)
    return f"made when {node.origin.op}{of and f' of {of}'} ran in pass {node.origin.pass_index:,}"


def _first(values: tuple[TensorStats | None, ...]) -> str:
    return stats(values[0] if values else None)


def _told(node: Node, of: str) -> str:
    symbol = gradient(node, of)
    return f"{symbol if symbol != 'grad' else f'gradient of {called(node)} ='} {_first(node.grads)}"
