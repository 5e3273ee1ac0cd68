"""Process group of this process, looked up at each pass because the script can join one at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from msgspec.structs import replace

from gradtrace.model import World
from gradtrace.processes.process import Process, this_process

if TYPE_CHECKING:
    from gradtrace.model import Trace

__all__ = ["Membership"]


class Membership:
    """Rank and world of this process: from its process group, or before that from the launcher's environment."""

    def __init__(self) -> None:
        self._process = this_process()

    def rank(self) -> int | None:
        """Return the rank of this process; None without other processes."""
        distributed = torch.distributed
        known = self._process
        if distributed.is_available() and distributed.is_initialized():
            rank, size = distributed.get_rank(), distributed.get_world_size()
            if (rank, size) != (known.rank, known.world):
                known = self._process = Process(rank, size, known.host, known.restart)
        return known.rank if known.is_one_of_many else None

    def signed(self, trace: Trace) -> Trace:
        """Return the trace with this process's rank and world; unchanged without other processes."""
        known = self._process
        if not known.is_one_of_many:
            return trace
        rank = known.rank
        return replace(
            trace,
            series=tuple(replace(series, rank=rank) for series in trace.series),
            pass_series=tuple(replace(series, rank=rank) for series in trace.pass_series),
            updates=tuple(replace(series, rank=rank) for series in trace.updates),
            error=None if trace.error is None else replace(trace.error, rank=rank),
            facts=tuple(replace(fact, rank=rank) for fact in trace.facts),
            world=World(known.world, (rank,), (known.host,), known.restart),
        )
