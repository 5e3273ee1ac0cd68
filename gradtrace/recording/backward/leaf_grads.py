"""Leaf gradients read from ``.grad`` when a pass has ended: without hooks, where that is what arrived.

This is enough for passes that are not kept, the majority in a long loop, and hooks would take as much time as the
script itself. Whether ``.grad`` is what arrived is learnt from passes with hooks: it is not where something changes or
takes it immediately, as optimizers in backward and sharded models do.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch._C._dynamo.eval_frame import get_eval_frame_callback

from gradtrace.recording.autograd.counters import is_compiled
from gradtrace.recording.autograd.graph import leaves_below, root_edge
from gradtrace.recording.backward.leaf_series import UNREACHED
from gradtrace.recording.isolation.stack_size import raise_stack_limit
from gradtrace.recording.native.loader import NATIVE
from gradtrace.recording.stats.device import Transfer, send
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.norms import norms_or_places
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

    from gradtrace.recording.backward.leaf_series import SeriesLog
    from gradtrace.recording.stats.kinds import Measured

    Leaves = dict[int, torch.Tensor]  # by position
    Trust = dict[int, "Trusted"]  # by id

__all__ = ["GradReader", "Pair"]


class Trusted(NamedTuple):
    """Leaf whose ``.grad`` is what arrives, and the rows of its series."""

    leaf: weakref.ref[torch.Tensor]
    rows: array[float]


Pair = tuple[torch.Tensor, Trusted]


def trusted_in_python(nodes: list[Any], trusted: Trust) -> list[Pair] | None:
    """Return the leaves below these nodes if all are trusted and have no gradient yet; ``nodes`` grows."""
    found = []
    for leaf in leaves_below(nodes):
        known = trusted.get(id(leaf))
        if known is None or known[0]() is not leaf or leaf.grad is not None or leaf._post_accumulate_grad_hooks:
            return None
        found.append((leaf, known))
    return found


def grads_of(leaves: list[Pair]) -> list[torch.Tensor | float | None]:
    """Return the gradient of each leaf; the C part returns the norm directly, where it can."""
    return [leaf.grad for leaf, _ in leaves]


trusted_below: Callable[[list[Any], Trust], list[Pair] | None] = (
    trusted_in_python if NATIVE is None else NATIVE.trusted_below
)
norms_of = grads_of if NATIVE is None else NATIVE.norms_of


class GradReader:
    """Reads the gradients of trusted leaves from ``.grad``, and adds their rows to ``series``."""

    def __init__(self, series: SeriesLog) -> None:
        self._series = series
        self._trusted: Trust = {}
        self._in_doubt: list[tuple[Transfer, list[tuple[Trusted, Measured, Measured]]]] = []
        self._latest: list[Trusted] = []
        self._running = 0
        # Overlapping passes add to the same gradients, so hooks are needed to tell them apart.
        self._overlap = False

    def begin(self) -> None:
        """Note that a pass begins."""
        self._overlap = self._overlap or self._running > 0
        self._running += 1

    def end(self) -> None:
        """Note that the pass has ended."""
        self._running -= 1

    def leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Pair] | None:
        """Return the leaves of this call of the engine, if ``.grad`` of each will be what arrives."""
        if self._in_doubt:
            self._decide()
        trusted = self._trusted
        if not trusted or self._overlap or not kwargs.get("accumulate_grad") or is_compiled():
            return None
        if get_eval_frame_callback() is not None:  # dynamo examines each function that is called
            return None
        with torch._C.DisableTorchFunction():
            try:
                nodes = list(dict.fromkeys([root_edge(output)[0] for output in args[0]]))
            except RuntimeError:
                return None  # an output without a graph
            found = trusted_below(nodes, trusted)
        raise_stack_limit(len(nodes))
        return found

    def read(self, index: int, leaves: list[Pair], *, asked: bool) -> None:
        """Add a row for each leaf: what arrived, without its norm if another pass ran meanwhile.

        ``asked``: the call of the engine named the leaves to reach.
        """
        with torch._C.DisableTorchFunction():
            is_written = self._series.write_arrived()
            norms = norms_of(leaves)
            if self._overlap:
                norms = [None if found is None else math.nan for found in norms]
            for (leaf, known), found in zip(leaves, norms_or_places(norms), strict=True):
                if found is None and not asked:
                    self._trusted.pop(id(leaf), None)  # something may have replaced its gradient
                norm = UNREACHED if found is None else found
                if is_written and type(norm) is float:
                    known[1].extend((index, norm))
                else:
                    self._series.wait(index, known[1], norm)
        self._latest = [known for _, known in leaves]

    def learn(self, seen: dict[int, Measured], names: dict[int, str], fresh: Leaves) -> None:
        """Trust those leaves, without a gradient before, whose ``.grad`` equals what hooks have ``seen`` arrive."""
        if self._overlap:
            return
        pairs = []
        for position, leaf in fresh.items():
            if position in seen and leaf.grad is not None:
                rows = self._series.rows_of(names[position], seen[position][0].shape)
                pairs.append((Trusted(weakref.ref(leaf), rows), measure(leaf.grad), seen[position]))
        self._in_doubt.append((send(), pairs))
        self._decide()

    def _decide(self) -> None:
        """Decide pending comparisons whose numbers have arrived: from a device, one or two passes later."""
        while self._in_doubt and self._in_doubt[0][0].has_arrived:
            for known, one, other in self._in_doubt.pop(0)[1]:
                leaf = known.leaf()
                if leaf is not None and _is_same(one, other):
                    self._trusted[id(leaf)] = known

    def latest(self) -> list[torch.Tensor]:
        """Return the leaves read in the last pass; a second call returns none."""
        found, self._latest = self._latest, []
        return [leaf for known in found if (leaf := known.leaf()) is not None]


def _is_same(one: Measured, other: Measured) -> bool:
    """Tell whether both have the same elements; the norm of a broadcast gradient is summed in another order."""
    reduce_pending([one, other])
    left, right = to_stats(one), to_stats(other)
    if left.norm is None or right.norm is None or not math.isclose(left.norm, right.norm, rel_tol=1e-5):
        return False
    return (left.shape, left.min, left.max, left.nan) == (right.shape, right.min, right.max, right.nan)
