"""Comparisons of each gradient with finite differences: of one call alone, and of the outputs by each leaf."""

from __future__ import annotations

import contextlib
import io
import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.model import Comparison
from gradtrace.recording.replay.calls import Key, TapedCall, references
from gradtrace.recording.replay.finite_differences import Limits, differences, precision
from gradtrace.recording.replay.rerun import Replay

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradtrace.model import Source
    from gradtrace.recording.replay.calls import TapedGraph
    from gradtrace.recording.replay.gradient_copies import GradientCopies
    from gradtrace.recording.user_code.source_text import Sources

__all__ = ["compare"]

CALL_ELEMENTS, CALL_DIRECTIONS = 16, 4
LEAF_ELEMENTS, LEAF_DIRECTIONS = 64, 8
_SYMMETRIC = "its gradient is that among symmetric matrices, which moving one element leaves"
_SPECIAL = dict.fromkeys(("cholesky", "cholesky_ex", "cholesky_inverse", "eigh", "eigvalsh"), _SYMMETRIC)
_SPECIAL["ctc_loss"] = "its gradient is that among probabilities that sum to 1, which moving one element leaves"
MOST_RUNS = 40_000  # of single calls, for all leaves together
PATIENCE = 5.0  # seconds for the leaves of one pass while the user waits for an explanation
_LATE = f"the leaves before it took {PATIENCE:g} seconds (check --numeric compares all)"


def compare(
    scene: TapedGraph, arrivals: GradientCopies, ids: dict[int, str], sources: Sources
) -> tuple[Comparison, ...]:
    """Return the comparisons of one pass; the script's random state and output are unchanged."""
    quiet = contextlib.redirect_stdout(io.StringIO())
    plain = torch.no_grad(), torch._C.DisableTorchFunction()
    with torch.random.fork_rng(devices=[]), plain[0], plain[1], quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warnings of the forward were shown when it ran first
        work = _Comparing(scene, arrivals, ids)
        return (*work.functions(sources), *work.leaves())


class _Comparing:
    def __init__(self, scene: TapedGraph, arrivals: GradientCopies, ids: dict[int, str]) -> None:
        self.scene = scene
        self.arrivals = arrivals
        self.ids = ids
        self.replay = Replay(scene)
        self.dtypes = {key: copy.dtype for key, copy in scene.copies.items()}
        self.positions = {
            number: position for position, number in enumerate(arrivals.numbers) if position not in arrivals.leaves
        }

    def functions(self, sources: Sources) -> Iterator[Comparison]:
        """Yield the comparison of each call by each of its inputs."""
        for call in self.replay.calls:
            inside = {self.positions[n] for n in range(call.start, call.end) if n in self.positions}
            backward = _backward(call, sources)
            for key, gradient in self.arrivals.sent_by(inside, self.scene.leaves).items():
                source, index, target, _ = self._link(inside, key)
                place = {"index": index, "target": self.ids[target], "backward": backward}
                yield self._function(call, (key, gradient), self.ids[source], place)

    def _link(self, inside: set[int], key: Key) -> tuple[int, int, int, int]:
        return next(
            link for link in self.arrivals.links if link[0] in inside and self._key(link[2], link[3]) == key
        )  # fmt: skip

    def _function(self, call: TapedCall, sent: tuple[Key, torch.Tensor], node: str, place: Any) -> Comparison:
        key, gradient = sent
        problem = (
            self.replay.problem(call)
            or _SPECIAL.get(call.name.rpartition(".")[2], "")
            or _left_out(call)
            or self._unfit(call, key, gradient)
        )
        if problem:
            return Comparison(node, "function", **place, note=problem)
        weights = self._weights(call)
        noise = 4 * self._eps(call) * max((w.abs().max().item() for w in weights.values() if w.numel()), default=0.0)

        made = self.replay.run(call, {key: self.replay.held[key]})
        # Infinities written by a call, or taken from another operand (a mask's), are constant: no gradient arrives.
        finite = {result: torch.isfinite(made[result]) for result in weights}
        if any(bool(weight[~finite[result]].any()) for result, weight in weights.items()):
            return Comparison(node, "function", **place, note="not finite")

        def weighted(value: torch.Tensor) -> float:
            made = self.replay.run(call, {key: value})
            return float(sum((made[r] * weight)[finite[r]].sum() for r, weight in weights.items()))

        dtype = precision(self.dtypes[k] for k in (*references(call), *call.results) if k in self.dtypes)
        limits = Limits(CALL_ELEMENTS, CALL_DIRECTIONS, dtype, noise)
        found = differences(weighted, self.replay.held[key], gradient, limits)
        return Comparison(node, "function", **place, **found._asdict())

    def _unfit(self, call: TapedCall, key: Key, gradient: torch.Tensor) -> str:
        if any(weight.is_complex() for weight in self._weights(call).values()):
            return "complex numbers are not compared"
        if key not in set(references(call)):
            return "it sent a gradient to a tensor that is not an argument of its call"
        at = self.replay.held[key]
        if not at.is_floating_point() or gradient.is_complex() or gradient.layout is not torch.strided:
            return "not a real, dense tensor"
        if at.shape != gradient.shape:
            return "the gradient has another shape than the tensor"
        weights = self._weights(call)
        if not weights:
            return "no gradient arrived at what it made"
        finite = all(torch.isfinite(tensor).all() for tensor in (gradient, at, *weights.values()))
        return "" if finite else "not finite"

    def _weights(self, call: TapedCall) -> dict[Key, torch.Tensor]:
        """Return the gradient that arrived for each result of a call, from the calls after it."""
        inside = {self.positions[n] for n in range(call.start, call.end) if n in self.positions}
        found = {}
        for key in call.results:
            position = self.positions.get(key.number) if key.output >= 0 else None
            gradient = None if position is None else self.arrivals.from_outside(position, key.output, inside)
            if gradient is not None:
                found[key] = gradient
        return found

    def _eps(self, call: TapedCall) -> float:
        dtype = precision(self.dtypes[k] for k in (*references(call), *call.results) if k in self.dtypes)
        return torch.finfo(dtype).eps

    def leaves(self) -> Iterator[Comparison]:
        """Yield the comparison of the outputs, weighted with their seeds, by each leaf."""
        problem = self._unseen()
        count = len(self.scene.leaves) * max(1, len(self.replay.calls))
        elements = max(1, min(LEAF_ELEMENTS, MOST_RUNS // (3 * count)))
        directions = max(1, min(LEAF_DIRECTIONS, MOST_RUNS // (3 * count)))
        dtype = precision(self.dtypes.values())
        largest = max((g.abs().max().item() for g in self._all_arrived()), default=0.0)
        limits = Limits(elements, directions, dtype, 100 * torch.finfo(dtype).eps * largest)
        until = time.perf_counter() + PATIENCE if self.arrivals.brief else math.inf
        for position in sorted(self.scene.leaves):
            gradient = self.arrivals.into(position)
            late = _LATE if time.perf_counter() > until else ""
            if gradient is not None:
                yield self._leaf(position, gradient, problem or late, limits)

    def _leaf(self, position: int, gradient: torch.Tensor, problem: str, limits: Limits) -> Comparison:
        node, key = self.ids[position], Key(self.scene.leaves[position], -1)
        calls = self.replay.downstream(key)
        roots = [self._key(*root) for root in self.arrivals.roots]
        used = any(key in set(references(call)) for call in calls) or key in roots
        problem = problem or ("" if used else "it was changed in place after it was used")
        problem = problem or next((why for c in calls if (why := self.replay.problem(c) or _left_out(c))), "")
        at = self.replay.held.get(key)
        if problem or at is None or not at.is_floating_point() or at.shape != gradient.shape:
            return Comparison(node, "leaf", target=node, note=problem or "not a real, dense tensor")
        if not torch.isfinite(gradient).all() or not torch.isfinite(at).all():
            return Comparison(node, "leaf", target=node, note="not finite")

        def output(value: torch.Tensor) -> float:
            made = self.replay.through(calls, key, value)
            pairs = zip(roots, self.arrivals.seeds, strict=True)
            return float(sum((made[root] * seed.double()).sum() for root, seed in pairs if root in made))

        if not math.isfinite(output(at)):
            return Comparison(node, "leaf", target=node, note="not finite")
        found = differences(output, at, gradient, limits)
        return Comparison(node, "leaf", target=node, **found._asdict())

    def _all_arrived(self) -> Iterator[torch.Tensor]:
        for found in self.arrivals.arrived.values():
            yield from (g for g in found if g is not None and g.numel() and torch.isfinite(g).all())

    def _unseen(self) -> str:
        """Return why no leaf can be compared: a node without a taped call, or a hook that changed a gradient."""
        covered = {n for call in self.replay.calls for n in range(call.start, call.end)}
        hidden = [number for number in self.positions if number not in covered]
        if hidden:
            node = self.ids[self.positions[hidden[0]]]
            return f"gradtrace did not see the call that made {node} (an in-place change of a view, or another thread)"
        made = {key for call in self.replay.calls for key in call.results}
        taken = {key for call in self.replay.calls for key in references(call)}
        taken |= {self._key(*root) for root in self.arrivals.roots}
        if any(key.output >= 0 and key.number in self.positions for key in taken - made):
            return "a tensor was changed in place through a view of it"
        if len(self.arrivals.seeds) != len(self.arrivals.roots):
            return "it started from an edge of the graph, not from a tensor"
        return "a tensor hook changed a gradient on its way" if self._hooked() else ""

    def _hooked(self) -> bool:
        """Tell whether the gradient that arrived at some node differs from the sum that was sent."""
        sums: dict[tuple[int, int], torch.Tensor] = {}
        for link in self.arrivals.links:
            part = self.arrivals._along(link)
            if part is not None and link[2] not in self.arrivals.leaves:
                at = link[2], link[3]
                sums[at] = sums[at] + part if at in sums else part
        for root, seed in zip(self.arrivals.roots, self.arrivals.seeds, strict=True):
            sums[root] = sums[root] + seed if root in sums else seed.double()
        return any(
            self._differ(arrived, total) for at, total in sums.items() if (arrived := self.arrivals.at(*at)) is not None
        )

    def _differ(self, arrived: torch.Tensor, total: torch.Tensor) -> bool:
        if arrived.shape != total.shape or not torch.isfinite(total).all():
            return False
        scale = total.abs().max().item() if total.numel() else 0.0
        return bool(((arrived - total).abs() > 0.02 * scale + 1e-30).any())

    def _key(self, position: int, output: int) -> Key:
        if position in self.scene.leaves:
            return Key(self.scene.leaves[position], -1)
        return Key(self.arrivals.numbers[position], output)


def _left_out(call: TapedCall) -> str:
    """Return why a call's gradient differs from its derivative because the script asked for it."""
    if call.name.endswith(".embedding") and call.kwargs.get("padding_idx") is not None:
        return "the row of padding_idx gets no gradient, as asked for"
    return ""


def _backward(call: TapedCall, sources: Sources) -> Source | None:
    """Return the source of a custom Function's backward."""
    function = getattr(call.function, "cls", None)
    code = getattr(getattr(function, "backward", None), "__code__", None)
    if code is None:
        return None
    line: int = code.co_firstlineno
    while "def " not in sources.at_line(code.co_filename, line).text and line < code.co_firstlineno + 10:
        line += 1  # past its decorators
    return sources.at_line(code.co_filename, line)
