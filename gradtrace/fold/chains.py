"""Runs of cheap single-use ops: views, transposes, casts, expands."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from gradtrace.fold.groups import Part
from gradtrace.ops import op_name

if TYPE_CHECKING:
    from gradtrace.fold.line import Line

__all__ = ["CHEAP", "is_cheap", "parts_with_chains"]

# Ops that move or relabel elements and compute nothing, as torch names them without Backward and number.
CHEAP = frozenset(
    {
        "Alias",
        "AsStrided",
        "Clone",
        "Contiguous",
        "Detach",
        "Diagonal",
        "Expand",
        "Flatten",
        "Movedim",
        "Mt",
        "Narrow",
        "Permute",
        "Real",
        "Reshape",
        "ReshapeAlias",
        "Select",
        "Slice",
        "Squeeze",
        "Swapaxes",
        "T",
        "ToCopy",
        "ToDtype",
        "Transpose",
        "Unflatten",
        "Unfold",
        "UnsafeView",
        "Unsqueeze",
        "View",
        "ViewAsComplex",
        "ViewAsReal",
    }
)


@cache
def is_cheap(op: str) -> bool:
    """Tell whether an op only moves, casts or relabels elements.

    >>> is_cheap("TransposeBackward0"), is_cheap("AddmmBackward0")
    (True, False)
    """
    return op_name(op) in CHEAP


def parts_with_chains(line: Line, free: list[int], fixed: frozenset[int]) -> dict[int, Part]:
    """Return parts for the ``free`` places by the place they stand at; those that are ``fixed`` stay alone.

    A chain stands where its last op does. One that ends at parameters goes into the box of its one user.
    """
    cheap = {at for at in free if at not in fixed and _is_link(line, at)}
    if not cheap:
        return {at: Part("node", (at,), call=line.nodes[at].call) for at in free}
    within, taken = dict[int, list[int]](), set[int]()
    parts: dict[int, Part] = {}
    for at in free:
        if at in cheap and at not in taken:
            chain = _followed(line, at, cheap)
            taken.update(chain)
            user = line.inward[at][0][0]
            if not line.onward[chain[-1]] and user not in fixed and user not in cheap and line.to_leaves[chain[-1]]:
                within.setdefault(user, []).extend(chain)
            else:
                parts[chain[-1]] = Part("chain" if len(chain) > 1 else "node", tuple(chain), call=line.nodes[at].call)
    alone = set(free)
    for at in free:
        if at in taken:
            continue
        mine = [place for place in within.pop(at, []) if at in alone]
        parts[at] = Part("op" if mine else "node", (at, *mine), call=line.nodes[at].call)
    for chain in within.values():  # their user is in no free place: they stay beside it
        parts[chain[-1]] = Part("chain" if len(chain) > 1 else "node", tuple(chain), call=line.nodes[chain[0]].call)
    return parts


def _is_link(line: Line, at: int) -> bool:
    """Tell whether a place has a cheap op that is used once and has one input."""
    if not is_cheap(line.nodes[at].op):
        return False
    return len(line.inward[at]) == 1 and len(line.onward[at]) + len(line.to_leaves[at]) == 1


def _followed(line: Line, at: int, cheap: set[int]) -> list[int]:
    chain = [at]
    while line.onward[chain[-1]]:
        onward = line.onward[chain[-1]][0][0]
        if onward not in cheap or line.nodes[onward].call != line.nodes[at].call:
            break
        chain.append(onward)
    return chain
