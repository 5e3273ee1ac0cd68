"""Modules that are never called, such as a ModuleList: groups all the same, where their members stand together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from gradtrace.model import ModuleCall

if TYPE_CHECKING:
    from gradtrace.model import BackwardPass

__all__ = ["with_containers"]

Key = tuple[int | None, str]  # the call around, and the container's path


def with_containers(graph: BackwardPass) -> BackwardPass:
    """Return a pass that has a call of each container whose members' calls stand together.

    ``model.h.0`` and ``model.h.1``, called by ``model``, are in one call of ``model.h``; where a foreign node
    comes between them, in two, if each has several members. A container's call has no type.
    """
    missing = {at: paths for at in range(len(graph.calls)) if (paths := _containers(graph, at))}
    if not missing:
        return graph
    containers = _Found(graph, missing)
    calls = [replace(call, parent=containers.parents.get(at, call.parent)) for at, call in enumerate(graph.calls)]
    return replace(graph, calls=(*calls, *containers.made))


def _containers(graph: BackwardPass, at: int) -> list[str]:
    """Return the paths between a call and the one around it, outermost first."""
    call = graph.calls[at]
    around = graph.calls[call.parent].path if call.parent is not None else ""
    if around and not call.path.startswith(f"{around}."):
        return []
    known, parts = (around.count(".") + 1 if around else 0), call.path.split(".")
    return [".".join(parts[:size]) for size in range(known + 1, len(parts))]


class _Found:
    """The containers' calls, and which calls are now inside them."""

    def __init__(self, graph: BackwardPass, missing: dict[int, list[str]]) -> None:
        self.made: list[ModuleCall] = []
        self.parents: dict[int, int] = {}
        self._graph, self._missing = graph, missing
        for members in self._stretches().values():
            self._make(members)

    def _stretches(self) -> dict[tuple[Key, int], list[int]]:
        """Return the calls that have a container in common and stand together, by container and stretch."""
        stretches: dict[tuple[Key, int], list[int]] = {}
        ends: dict[Key, tuple[int, int]] = {}  # of each container: the number of its stretch, and where that ends
        homes: dict[int, tuple[Key, int]] = {}
        functions = (node for node in self._graph.nodes if node.kind != "leaf")
        for place, node in enumerate(functions):
            for call in self._around(node.call):
                key = (self._graph.calls[call].parent, self._missing[call][0])
                number, end = ends.get(key, (0, place))
                number += place > end + 1 and call not in homes
                ends[key] = (number, place)
                if call not in homes:
                    homes[call] = (key, number)
                    stretches.setdefault(homes[call], []).append(call)
        return stretches

    def _around(self, call: int | None) -> list[int]:
        around = []
        while call is not None:
            if call in self._missing:
                around.append(call)
            call = self._graph.calls[call].parent
        return around

    def _make(self, members: list[int]) -> None:
        """Make the call of one container, and those between it and its members that some have in common."""
        waiting = [(members, 0, self._graph.calls[members[0]].parent)]
        while waiting:
            mine, level, parent = waiting.pop()
            by_path: dict[str, list[int]] = {}
            for call in mine:
                paths = self._missing[call]
                by_path.setdefault(paths[level] if level < len(paths) else "", []).append(call)
            for path, calls in by_path.items():
                if not path or len(calls) < 2:  # noqa: PLR2004 - a group of one says nothing
                    self.parents |= dict.fromkeys(calls, parent) if parent is not None else {}
                    continue
                self.made.append(ModuleCall(path, "", parent))
                waiting.append((calls, level + 1, len(self._graph.calls) + len(self.made) - 1))
