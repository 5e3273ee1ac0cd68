"""Groups of what stands together on the line: module calls at a depth, or stretches of even size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from gradtrace.fold.repetition.repeat_labels import pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradtrace.model import BackwardPass

__all__ = ["Part", "by_call", "chunked", "common_call", "deepest", "is_open"]


class Part(Struct, frozen=True, gc=False):
    """Content of a box to be: places on the line in their order, and the kind of fold."""

    kind: str
    places: tuple[int, ...]
    count: int = 1
    call: int | None = None
    name: str = ""


def is_open(path: str, opened: Sequence[str]) -> bool:
    """Tell whether a module is one of those opened, or inside one.

    >>> is_open("h.3.attn", ["h.3"]), is_open("h.30", ["h.3"])
    (True, False)
    """
    return any(path == each or path.startswith(f"{each}.") for each in opened)


class Calls:
    """The module calls of a pass: which is around which."""

    def __init__(self, graph: BackwardPass, opened: Sequence[str] = ()) -> None:
        self._calls = graph.calls
        self._chains: dict[int, tuple[int, ...]] = {}
        self._opened = opened

    def chain(self, call: int | None) -> tuple[int, ...]:
        """Return the calls around a call, outermost first, and the call itself."""
        if call is None:
            return ()
        if call not in self._chains:
            chain: list[int] = []
            around: int | None = call
            while around is not None:
                chain.append(around)
                around = self._calls[around].parent
            self._chains[call] = tuple(reversed(chain))
        return self._chains[call]

    def at_depth(self, call: int | None, depth: int, shown: frozenset[int] = frozenset()) -> int | None:
        """Return the call around this one at a depth from 1, or deeper where that one is shown or has to stay open."""
        for each in self.chain(call)[depth - 1 :]:
            if each not in shown and not self._stays_open(each):
                return each
        return None

    def key(self, call: int) -> tuple[str, str]:
        """Return what calls of one kind have in common: ``h.3`` and ``h.4``, both a Block."""
        made = self._calls[call]
        return pattern(made.path), made.type

    def _stays_open(self, call: int) -> bool:
        path = self._calls[call].path
        return any(each == path or each.startswith(f"{path}.") or path.startswith(f"{each}.") for each in self._opened)


def deepest(calls: Calls, graph: BackwardPass) -> int:
    """Return how deep module calls are nested in a pass."""
    return max((len(calls.chain(at)) for at in range(len(graph.calls))), default=0)


def common_call(calls: Calls, members: Iterable[int | None]) -> int | None:
    """Return the innermost call around all of these."""
    common: tuple[int, ...] | None = None
    for each in dict.fromkeys(members):
        chain = calls.chain(each)
        if common is None:
            common = chain
        size = 0
        while size < min(len(common), len(chain)) and common[size] == chain[size]:
            size += 1
        common = common[:size]
        if not common:
            return None
    return common[-1] if common else None


def by_call(parts: Sequence[Part], calls: Calls, depth: int, shown: frozenset[int] = frozenset()) -> list[Part]:
    """Return the parts with each unbroken stretch of one module call at this depth as one, but for those shown."""
    grouped: list[Part] = []
    stretch: list[Part] = []
    key: int | None = None
    for part in parts:
        mine = calls.at_depth(part.call, depth, shown) if part.kind != "open" else None
        if stretch and (mine is None or mine != key):
            grouped.append(_joined(stretch, key))
            stretch = []
        key = mine
        if mine is None:
            grouped.append(part)
        else:
            stretch.append(part)
    if stretch:
        grouped.append(_joined(stretch, key))
    return grouped


def _joined(stretch: list[Part], call: int | None) -> Part:
    if len(stretch) == 1:
        return stretch[0]
    return Part("module", tuple(place for part in stretch for place in part.places), call=call)


def chunked(parts: Sequence[Part], most: int, calls: Calls) -> list[Part]:
    """Return the parts with neighbours put together, so that no more than ``most`` are left; open ones stay."""
    free = sum(part.kind != "open" for part in parts)
    size = max(2, -(-free // max(1, most - (len(parts) - free))))
    grouped: list[Part] = []
    stretch: list[Part] = []
    for part in [*parts, None]:
        if stretch and (part is None or part.kind == "open" or len(stretch) == size):
            grouped.append(stretch[0] if len(stretch) == 1 else _chunk(stretch, calls))
            stretch = []
        if part is not None:
            (grouped if part.kind == "open" else stretch).append(part)
    return grouped


def _chunk(stretch: list[Part], calls: Calls) -> Part:
    call = common_call(calls, (part.call for part in stretch))
    return Part("stretch", tuple(place for part in stretch for place in part.places), call=call)
