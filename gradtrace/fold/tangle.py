"""Test for a tangle: so many lines pass so many boxes that a picture is no use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.fold.groups import Part
    from gradtrace.fold.line import Line

__all__ = ["is_tangled"]

TANGLED = 2000  # ranks that all lines between boxes span; a layout takes a minute above 5,000


def is_tangled(line: Line, parts: Sequence[Part]) -> bool:
    """Tell whether so many lines pass so many boxes that neither a layout nor a reader can follow them."""
    home = [0] * len(line.nodes)
    for number, part in enumerate(parts):
        for at in part.places:
            home[at] = number
    ranks, total = [0] * len(parts), 0
    links = sorted(
        {
            (home[at], home[target])
            for at, ends in enumerate(line.onward)
            for target, _ in ends
            if home[at] != home[target]
        }
    )
    for source, target in links:
        ranks[target] = max(ranks[target], ranks[source] + 1)
    for source, target in links:
        total += ranks[target] - ranks[source]
    return total > TANGLED
