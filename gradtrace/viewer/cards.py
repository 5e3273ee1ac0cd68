"""Cards in the boxes of the page: rows of text with a role each, and the space that they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradtrace.drawing.fold_wording import content, counted_findings, flow, inside, made_by, names
from gradtrace.drawing.palette import FONT, MONO
from gradtrace.engine.widths import width
from gradtrace.fold.gradient_summary import joined
from gradtrace.wording.numbers import kind, stats
from gradtrace.wording.phrases import expression, gradient, positions
from gradtrace.wording.quoting import one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradtrace.fold import Box
    from gradtrace.model import BackwardPass, Node, TensorStats
    from gradtrace.wording.numbers import Scale

__all__ = ["METRICS", "Cards", "Row", "flow_text", "size_of", "text_width"]

Row = tuple[Any, ...]  # its role, its text, and what else the role needs

# Of each role: the height of a row, the size of its text, whether bold or monospaced.
METRICS: dict[str, tuple[int, int, str]] = {
    "title": (19, 13, "bold"),
    "code": (17, 12, "mono"),
    "value": (17, 12, ""),
    "formula": (16, 11, ""),
    "gradient": (20, 12, ""),
    "leaf": (19, 11, ""),
    "curve": (30, 10, ""),
    "finding": (18, 11, "bold"),
    "failure": (18, 11, "bold"),
    "small": (14, 10, ""),
}
PADDING, LEAST, STEP = 9, 96, 12  # points: around the rows, the narrowest box, and what widths are multiples of
LONGEST_CODE, LONGEST, LONGEST_NAME = 40, 46, 28  # characters
MOST_GRADIENTS, MOST_LEAVES = 3, 5  # that have a row each
LONGEST_FLOW = 18  # characters beside a line


class Cards:
    """Rows of the boxes of one pass; ``of`` is what is differentiated."""

    def __init__(self, graph: BackwardPass, of: str, scale: Scale) -> None:
        self._graph, self._of, self._scale = graph, of, scale

    def rows(self, box: Box) -> list[Row]:
        """Return what stands in a box, top to bottom."""
        folded = box.kind not in {"node", "op"}
        rows = [*(self._fold(box) if folded else self._node(self._graph.by_id[box.nodes[0]]))]
        rows += [("finding", words, severity) for severity, words in counted_findings(box)]
        rows += self._leaves(box)
        return rows if folded else [*rows, *_place(self._graph.by_id[box.nodes[0]])]

    def _look(self, grad: TensorStats | None) -> tuple[str, float]:
        return kind(grad), round(self._scale.share(grad), 3)

    def _fold(self, box: Box) -> Iterator[Row]:
        title, what = names(box, self._graph)
        yield "title", shorten(title, LONGEST), "fold"
        for text in (f"{what} · {content(box)}" if what else content(box), made_by(box, self._graph)):
            if text:
                yield "small", shorten(text, LONGEST)
        summary = box.summary
        yield "gradient", flow(summary.arrived, "in"), *self._look(summary.arrived.stats)
        if len(summary.curve) > 2:  # noqa: PLR2004 - in and out say as much
            yield "curve", "", [self._point(each) for each in summary.curve]
        if summary.left.tensors:
            yield "gradient", flow(summary.left, "out"), *self._look(summary.left.stats)
        if inside(box) and (box.kind != "chain" or summary.broken or summary.zero):
            yield "small", shorten(inside(box), LONGEST)

    def _point(self, norm: float | None) -> float | str | None:
        return norm if norm is None or norm == norm else "nan"  # noqa: PLR0124 - JSON has no NaN

    def _node(self, node: Node) -> Iterator[Row]:
        yield "title", node.op if node.kind == "function" else (one_line(node.name) or node.kind)
        yield from _made(node)
        if node.formula:
            yield "formula", shorten(f"sends {one_line(node.formula)}", LONGEST)
        called = gradient(node, self._of)
        for i, grad in enumerate(node.grads[:MOST_GRADIENTS]):
            which = f"{called}[{i}]" if len(node.grads) > 1 else called
            text = f"{which} {stats(grad)}" if grad else f"no {called.rstrip(' =')}"
            yield "gradient", text, *self._look(grad)
        if len(node.grads) > MOST_GRADIENTS:
            yield "small", f"{len(node.grads) - MOST_GRADIENTS} more"
        error = self._graph.error
        if error and error.node == node.id:
            yield "failure", f"raised {one_line(error.type)}"

    def _leaves(self, box: Box) -> Iterator[Row]:
        leaves = [self._graph.by_id[leaf] for leaf in box.leaves]
        if len(leaves) > MOST_LEAVES:
            together = joined([leaf.grads[0] if leaf.grads else None for leaf in leaves])
            text = flow(together, "grad").replace(f", {len(leaves)} tensors", "")
            yield "leaf", f"{len(leaves):,} leaves", *self._look(together.stats), text, ""
            return
        for leaf in leaves:
            grad = leaf.grads[0] if leaf.grads else None
            symbol = gradient(leaf, self._of)
            name = shorten(one_line(leaf.name), LONGEST_NAME) or "leaf"
            text = f"{symbol} {flow_text(grad)}" if grad else f"no {symbol.rstrip(' =')}"
            yield "leaf", name, *self._look(grad), text, leaf.id


def _made(node: Node) -> Iterator[Row]:
    """Yield the code that made a node, and its value."""
    values = [value for value in node.values if value is not None]
    value = stats(values[0]) if len(values) == 1 else ""
    if node.kind != "function":
        if value:
            yield "value", f"= {value}"
        return
    code = shorten(expression(node), LONGEST_CODE)
    name = shorten(one_line(node.name), LONGEST_NAME)
    left = f"{name} = {code}" if name and code else name or code
    if left:
        yield "code", left
    if value:
        yield "value", f"= {value}"
    elif values:
        yield "small", f"{len(values)} outputs"


def _place(node: Node) -> Iterator[Row]:
    text = " · ".join(filter(None, (one_line(node.module), positions(node))))
    if text:
        yield "small", shorten(text, LONGEST)


def flow_text(grad: TensorStats | None) -> str:
    """Return a gradient in few characters, for beside a line: its value or values, or else its norm."""
    text = stats(grad)
    if grad is None or kind(grad) not in {"finite", "nan", "inf"} or (len(text) <= LONGEST_FLOW and "‖" not in text):
        return "" if grad is None else text
    return f"‖{text.split('‖')[1]}‖" if text.count("‖") == 2 else kind(grad)  # noqa: PLR2004 - ‖norm‖


def size_of(rows: Sequence[Row]) -> tuple[int, int]:
    """Return the width and height of a box with these rows."""
    wide = max((_wide(row) for row in rows), default=0.0)
    high = sum(METRICS[row[0]][0] for row in rows)
    return max(LEAST, STEP * -(-int(wide + 2 * PADDING) // STEP)), high + PADDING


def _wide(row: Row) -> float:
    if row[0] == "curve":
        return 150
    text = f"{row[1]}  {row[4]}" if row[0] == "leaf" else row[1]
    sign = 40 if row[0] == "title" and len(row) > 2 else 0  # noqa: PLR2004 - of a fold, beside its title
    extra = sign + {"gradient": 12, "leaf": 18, "finding": 22, "failure": 12}.get(row[0], 0)
    _, size, look = METRICS[row[0]]
    return extra + text_width(text, size, look)


def text_width(text: str, size: float, look: str = "") -> float:
    """Return how wide text is, with a guess for characters that the fonts do not have."""
    known = width(text, MONO if look == "mono" else FONT, size, bold=look == "bold")
    return 0.62 * size * len(text) if known is None else known
