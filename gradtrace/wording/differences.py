"""The difference of two recordings as text, and as marks on a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.model import Finding
from gradtrace.wording.nodes import position
from gradtrace.wording.numbers import number, stats
from gradtrace.wording.quoting import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.difference import Change, Difference
    from gradtrace.model import TensorStats

__all__ = ["as_findings", "as_text"]

SHOWN = 5  # changes, leaves and nodes shown of each kind; --json has all


def as_text(difference: Difference) -> str:
    """Return the difference as text: where it begins, the leaves that differ most, the nodes new or gone."""
    return "".join(f"{line}\n" for line in _lines(difference))


def _lines(difference: Difference) -> Iterator[str]:
    before, after = difference.passes
    if before != after:
        yield f"{before:,} backward passes before, {after:,} after; the first of each are compared"
    if difference.changes:
        yield f"{len(difference.changes):,} gradients differ; in backward order they part first at"
        yield from (f"  {_change(change)}" for change in difference.changes[:SHOWN])
        leaves = [change for change in difference.changes if change.kind == "leaf"]
        leaves.sort(key=lambda change: -1.0 if change.relative is None else -change.relative)
        if leaves:
            yield f"{len(leaves):,} leaves moved, most of all"
            yield from (f"  {_change(change)}" for change in leaves[:SHOWN])
    for word, labels in (("gone", difference.gone), ("come", difference.come)):
        if labels:
            yield f"{len(labels):,} node{'s have' if len(labels) > 1 else ' has'} {word}"
            yield from (f"  {one_line(label)}" for label in labels[:SHOWN])
    if not (difference.changes or difference.gone or difference.come):
        yield "the gradients are the same"
    yield from (f"note: {one_line(reason)}" for reason in difference.reasons)


def _change(change: Change) -> str:
    at = f" ({position(change.source)})" if change.source else ""
    return one_line(f"pass {change.pass_index}: {change.label}{at}: {_both(change)}")


def _both(change: Change) -> str:
    apart = f", {number(change.relative)} relative" if change.relative is not None else ""
    return f"{_said(change.before)} before, {_said(change.after)} after{apart}"


def _said(gradient: TensorStats | None) -> str:
    return "none" if gradient is None else stats(gradient)


def as_findings(difference: Difference, pass_index: int) -> tuple[Finding, ...]:
    """Return a mark for each node of one pass that differs: its earlier gradient, or that the node is new."""
    new = [
        Finding("new", "info", "not in the first trace", nodes=(i,))
        for index, i in difference.come_ids
        if index == pass_index
    ]
    return tuple(new) + tuple(
        Finding(f"was {_said(c.before)}", "warning", _both(c), nodes=(c.after_id,), source=c.source)
        for c in difference.changes
        if c.pass_index == pass_index
    )
