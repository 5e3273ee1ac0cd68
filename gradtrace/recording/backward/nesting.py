"""Nesting of passes: which pass ran inside which, and which backward node made which other node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradtrace.model import Origin

if TYPE_CHECKING:
    from gradtrace.recording.forward.call_log import Maker

__all__ = ["Nesting"]

# Limit of remembered ids of nodes that made other nodes.
_MANY_IDS = 300_000


class Nesting:
    """Passes by task of the engine, and the origins of nodes made by nodes."""

    def __init__(self) -> None:
        # Tasks of the engine that had nested passes, and the task that each nested pass had.
        self._tasks: dict[int, int | None] = {}
        self._outer: dict[int, int] = {}
        self._ids: dict[int, dict[int, str]] = {}
        self._count = 0

    def begin(self, pass_index: int, outer_task: int) -> None:
        """Note that a pass began inside a task of the engine, whose own pass is known when it has ended."""
        if outer_task >= 0:
            self._tasks.setdefault(outer_task, None)
            self._outer[pass_index] = outer_task

    def end(self, pass_index: int, task: int) -> None:
        """Note that the engine ran this pass as this task."""
        if task in self._tasks:
            self._tasks[task] = pass_index

    def parent(self, pass_index: int) -> int | None:
        """Return the index of the pass around this one, known when that pass has ended."""
        task = self._outer.get(pass_index)
        return None if task is None else self._tasks[task]

    def note_ids(self, pass_index: int, ids: dict[int, str]) -> None:
        """Note the ids of the nodes of a pass that made nodes; the oldest are forgotten."""
        self._ids[pass_index] = ids
        self._count += len(ids)
        while self._count > _MANY_IDS and len(self._ids) > 1:
            self._count -= len(self._ids.pop(next(iter(self._ids))))

    def origin(self, made: Maker) -> Origin:
        """Return the backward node whose run made another node."""
        return Origin(made.pass_index, self._ids.get(made.pass_index, {}).get(made.position, ""), made.op)
