"""The process group that this process is in: asked at each pass, for a script joins it when it likes."""

from __future__ import annotations

import torch

from gradtrace.model import World
from gradtrace.processes import Process, this_process

__all__ = ["Membership"]


class Membership:
    """Who this process is: as its process group says, before that as the launcher's environment does."""

    def __init__(self) -> None:
        self._process = this_process()
        self._group: object = None

    def rank(self) -> int:
        """Return the rank of this process; 0 where it is alone."""
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            group = distributed.group.WORLD
            if group is not self._group:
                self._group = group
                known = self._process
                self._process = Process(
                    distributed.get_rank(), distributed.get_world_size(), known.host, known.restart
                )
        return self._process.rank

    def world(self) -> World | None:
        """Return the world that this process is one of; None where it is alone."""
        known = self._process
        return World(known.world, (known.rank,), (known.host,), known.restart) if known.is_one_of_many else None
