"""How the checks read a pass: is this gradient broken, what went into an op, how a person says a number."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradtrace.model import BackwardPass, Edge, Node, Source, TensorStats, Values

__all__ = [
    "bad_word",
    "base",
    "elements",
    "flat",
    "inputs",
    "is_broken",
    "is_zero",
    "place",
    "quoted",
    "say",
    "shown",
    "size",
    "some",
    "where",
]


def is_broken(stats: TensorStats | None) -> bool:
    """Tell whether there is a NaN or an infinity in it."""
    return stats is not None and bool(stats.nan or stats.inf)


def is_zero(stats: TensorStats | None) -> bool:
    """Tell whether something is there and all of it is exactly zero."""
    return stats is not None and stats.zeros == 1.0 and size(stats) > 0


def size(stats: TensorStats) -> int:
    """Return the number of elements."""
    count = 1
    for length in stats.shape:
        count *= length
    return count


def base(op: str) -> str:
    """Return the name of an op without torch's ending: ``SqrtBackward0`` is ``Sqrt``."""
    return op.rstrip("0123456789").removesuffix("Backward")


def inputs(graph: BackwardPass, node: Node) -> Iterator[tuple[Edge, TensorStats | None]]:
    """Yield for each edge out of ``node`` what its target's forward output held: the node's own input.

    Inside a composite op nobody saw the values (the transposed weight of a linear layer): then the way goes
    on to the inputs of that.
    """
    waiting, seen = list(graph.edges_from[node.id]), {node.id}
    for edge in waiting:
        target = graph.by_id[edge.target]
        stats = target.values[edge.target_index] if edge.target_index < len(target.values) else None
        if stats is None and target.kind == "function" and target.id not in seen:
            seen.add(target.id)
            waiting += graph.edges_from[target.id]
        yield edge, stats


def flat(values: Values) -> list[float | None]:
    """Return nested values as one list, in order."""
    if not isinstance(values, list):
        return [None if values is None else float(values)]
    return [item for value in values for item in flat(value)]


def elements(stats: TensorStats) -> Iterator[tuple[str, float | None]]:
    """Yield the index of each element (``[0, 2]``) and its value, None for a non-finite one; small tensors only."""
    if stats.values is None and stats.shape:
        return
    yield from zip(_indices(stats.shape), flat(stats.values), strict=False)


def _indices(shape: tuple[int, ...]) -> list[str]:
    found: list[tuple[int, ...]] = [()]
    for length in shape:
        found = [(*index, i) for index in found for i in range(length)]
    return [f"[{', '.join(map(str, index))}]" if index else "" for index in found]


def say(number: float | None) -> str:
    """Return a number with four significant digits at most, as a person would write it."""
    return "unknown" if number is None else f"{number + 0.0:.4g}"  # which is 0 where it was -0


def shown(shape: object) -> str:
    """Return a shape as PyTorch users write it: ``(64, 1)``, ``(64,)``, ``()``."""
    sizes = [str(length) for length in shape] if isinstance(shape, (list, tuple)) else []
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def bad_word(stats: TensorStats | None) -> str:
    """Return ``NaN``, ``infinity`` or both, after what there is."""
    if stats is None:
        return "NaN"
    return "NaN and infinity" if stats.nan and stats.inf else "NaN" if stats.nan else "infinity"


def place(source: Source | None) -> str:
    """Return ``train.py:12``, or nothing."""
    return f"{PurePath(source.filename).name}:{source.line}" if source else ""


def quoted(source: Source | None) -> str:
    """Return a line's expression and place: `` `x.detach()` (train.py:12)``."""
    if source is None:
        return "a line that is not known"
    return f"`{_short(source.text, 80)}` ({place(source)})"


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def where(node: Node) -> str:
    """Return the op with its expression and line: ``sqrt `torch.sqrt(x)` (train.py:12)``."""
    source = node.source or node.library
    if node.kind != "function":
        return f"{node.kind} {node.name or 'without a name'}"
    code = f" `{_short(source.text, 60)}`" if source and source.text else ""  # two thirds of a terminal's line
    at = place(source)
    module = f" in {node.module}" if node.module else ""
    return f"{node.op}{code}{f' ({at}{module})' if at else module}"


def some(words: Iterable[str], limit: int = 5) -> str:
    """Return the first words with commas, and how many more there are."""
    found = list(words)
    more = f" and {len(found) - limit:,} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more
