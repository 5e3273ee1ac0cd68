"""Gradients of leaves read from ``.grad`` when a pass has ended: without a hook, where that is what arrived.

Of a loop of many passes all but the few that are kept need no more than this, and hooks would cost as much as
the script itself. Whether ``.grad`` is what arrived is learnt from passes with hooks: it is not where something
changes or takes it at once, as optimizers in backward and sharded models do.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradtrace.recording.compiled import is_compiled
from gradtrace.recording.depth import make_room
from gradtrace.recording.reduction import settle
from gradtrace.recording.statistics import finish, measure, unmeasured
from gradtrace.recording.walk import leaves_below, root_edge

if TYPE_CHECKING:
    import torch

    from gradtrace.recording.passes import EngineCall
    from gradtrace.recording.raw import RawPass, Row
    from gradtrace.recording.statistics import Measured

    Leaves = dict[int, torch.Tensor]  # by position

__all__ = ["Afterwards"]

_NOTE = "another pass added to it"


class Trusted(NamedTuple):
    """A leaf that keeps in ``.grad`` what arrives, and how it is shown."""

    leaf: weakref.ref[torch.Tensor]
    name: str
    shape: tuple[int, ...]


class Afterwards:
    """Knows which leaves keep in ``.grad`` what arrives at them."""

    def __init__(self) -> None:
        self._trusted: dict[int, Trusted] = {}
        self._running = 0
        # Passes inside or beside each other add to the same gradients; from then on hooks tell them apart.
        self._overlap = False

    def begin(self) -> None:
        """Note that a pass begins."""
        self._overlap = self._overlap or self._running > 0
        self._running += 1

    def end(self) -> None:
        """Note that it has ended."""
        self._running -= 1

    def suits(self, call: EngineCall) -> list[tuple[torch.Tensor, Trusted]] | None:
        """Return the leaves of this call, if ``.grad`` of them all will tell what arrives."""
        trusted = self._trusted
        if not trusted or self._overlap or not call.accumulates or is_compiled():
            return None
        try:
            nodes = list(dict.fromkeys(root_edge(output)[0] for output in call.outputs))
        except RuntimeError:
            return None  # an output without a graph
        found, below = [], leaves_below(nodes)
        make_room(len(nodes))
        for leaf in below:
            known = trusted.get(id(leaf))
            if known is None or known[0]() is not leaf or leaf.grad is not None or leaf._post_accumulate_grad_hooks:
                return None
            found.append((leaf, known))
        return found

    def read(self, call: EngineCall, leaves: list[tuple[torch.Tensor, Trusted]]) -> list[Row]:
        """Return what arrived, without its numbers if another pass ran meanwhile."""
        rows: list[Row] = []
        for leaf, (_, name, shape) in leaves:
            grad, measured = leaf.grad, None
            if grad is not None:
                measured = unmeasured(grad, _NOTE) if self._overlap else measure(grad)
            elif not call.inputs:
                self._trusted.pop(id(leaf), None)  # something may have taken it
            rows.append((name, shape, measured))
        return rows

    def learn(self, raw: RawPass, fresh: Leaves) -> None:
        """Trust those leaves, without a gradient before, whose ``.grad`` is what the hooks of this pass saw arrive."""
        if self._overlap:
            return
        seen = raw.leaf_gradients()
        for position, leaf in fresh.items():
            if position in seen and leaf.grad is not None and _is_same(measure(leaf.grad), seen[position]):
                self._trusted[id(leaf)] = Trusted(weakref.ref(leaf), raw.names[position], seen[position][0].shape)


def _is_same(one: Measured, other: Measured) -> bool:
    """Tell whether both are the same elements; the norm of a broadcast gradient is summed in another order."""
    settle([one, other])
    left, right = finish(one), finish(other)
    if left.norm is None or right.norm is None or not math.isclose(left.norm, right.norm, rel_tol=1e-5):
        return False
    return (left.shape, left.min, left.max, left.nan) == (right.shape, right.min, right.max, right.nan)
