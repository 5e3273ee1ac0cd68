"""Frames of module calls, and ranks of boxes by which the frames lie one below the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from gradtrace.fold.chains import is_cheap
from gradtrace.fold.ranks import ranks_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from gradtrace.fold.boxes import Box, Folded
    from gradtrace.model import BackwardPass

__all__ = ["frames_of", "lengths", "spaced_ranks"]

LEAST = 2  # boxes that a frame is drawn around


def frames_of(graph: BackwardPass, boxes: Iterable[Box], around: Collection[int] = ()) -> dict[str, tuple[int, ...]]:
    """Return for each box the calls framed around it, outermost first: those that have several boxes.

    The calls ``around`` all of them have no frame.
    """
    chains = {box.id: [call for call in _chain(graph, box) if call not in around] for box in boxes}
    sizes = Counter(call for chain in chains.values() for call in chain)
    inner = {one: sizes[other] for chain in chains.values() for one, other in pairwise(chain)}
    # Of frames around the same boxes the innermost says all.
    drawn = {call for call, size in sizes.items() if size >= LEAST and inner.get(call) != size}
    return {box_id: tuple(call for call in chain if call in drawn) for box_id, chain in chains.items()}


def _chain(graph: BackwardPass, box: Box) -> list[int]:
    call = graph.calls[box.call].parent if box.call is not None and box.kind == "module" else box.call
    chain: list[int] = []
    while call is not None:
        chain.append(call)
        call = graph.calls[call].parent
    return chain[::-1]


def spaced_ranks(folded: Folded) -> dict[str, int]:
    """Return how far down each box stands if what follows a frame stands below all of it.

    A layout packs frames side by side where their ranks overlap: a parameter that hangs below its op makes
    a slope of the plainest net.
    """
    frames, order = frames_of(folded.graph, folded.boxes), _order(folded)
    exits = _exits(folded, frames)
    before: dict[str, list[str]] = defaultdict(list)
    for box in folded.boxes:
        for call in frames[box.id]:
            # Only forward in one and the same order: so there is no cycle.
            if all(order[box.id] < order[target] for target in exits.get(call, ())):
                before[box.id].append(f"end {call}")
    for call, targets in exits.items():
        before[f"end {call}"] += targets
    return ranks_of(folded, before)


def lengths(folded: Folded) -> dict[tuple[str, str], int]:
    """Return how many ranks each link that leaves a frame must span, where that is more than one."""
    frames, ranks = frames_of(folded.graph, folded.boxes), spaced_ranks(folded)
    apart = {
        (link.source, link.target): ranks[link.target] - ranks[link.source]
        for link in folded.links
        if set(frames[link.source]) - set(frames[link.target])
    }
    return {ends: length for ends, length in apart.items() if length > 1}


def _order(folded: Folded) -> dict[str, int]:
    """Return a topological order of the boxes, in which what hangs on one box alone has that box's place."""
    order, hangs = {box.id: at for at, box in enumerate(folded.boxes)}, _hanging(folded)
    if any(order[link.source] > order[link.target] for link in folded.links if link.target not in hangs):
        ranks = ranks_of(folded)
        order = {box.id: at for at, box in enumerate(sorted(folded.boxes, key=lambda box: ranks[box.id]))}
    return {box_id: order[_root(box_id, hangs)] for box_id in order}


def _hanging(folded: Folded) -> dict[str, str]:
    """Return the leaves, and the views of leaves, that one box alone leads to, with that box."""
    users, onward = defaultdict[str, list[str]](list), Counter[str]()
    for link in folded.links:
        users[link.target].append(link.source)
        onward[link.source] += 1
    hanging: dict[str, str] = {}
    waiting = [box.id for box in folded.boxes if folded.graph.by_id[box.nodes[0]].kind == "leaf"]
    while waiting:
        box_id = waiting.pop()
        if len(users[box_id]) != 1:
            continue
        user = hanging[box_id] = users[box_id][0]
        if onward[user] == 1 and is_cheap(folded.graph.by_id[folded.by_id[user].nodes[0]].op):
            waiting.append(user)
    return hanging


def _root(box_id: str, hangs: Mapping[str, str]) -> str:
    while box_id in hangs:
        box_id = hangs[box_id]
    return box_id


def _exits(folded: Folded, frames: Mapping[str, tuple[int, ...]]) -> dict[int, list[str]]:
    """Return for each framed call the boxes outside of it that its lines lead to."""
    exits: dict[int, dict[str, None]] = defaultdict(dict)
    for link in folded.links:
        there = set(frames[link.target])
        for call in frames[link.source]:
            if call not in there:
                exits[call][link.target] = None
    return {call: list(targets) for call, targets in exits.items()}
