"""Passes of torch.distributed.autograd: counted only, because its separate engine is not recorded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradtrace.recording.isolation.patch import Patch
from gradtrace.recording.user_code.frames import Place, find_user_place

if TYPE_CHECKING:
    from gradtrace.model import Attribute
    from gradtrace.recording.isolation.patch import Removable

__all__ = ["UnseenPasses"]


class UnseenPasses:
    """Counts the calls of ``torch.distributed.autograd.backward``."""

    def __init__(self) -> None:
        self._count = 0
        self._place: Place | None = None

    def patches(self) -> list[Removable]:
        """Return the replacement of the function."""
        module: Any = sys.modules.get("torch.distributed.autograd")
        if module is None or not hasattr(module, "backward"):
            return []  # built without distributed
        backward = module.backward

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            self._place = self._place or find_user_place(sys._getframe(1))[0]
            return backward(*args, **kwargs)

        return [Patch(module, "backward", counted)]

    def of_run(self) -> list[tuple[str, tuple[int, ...], Place | None, dict[str, Attribute]]]:
        """Return the number of passes, and the place of the first call."""
        return [("distributed-autograd", (), self._place, {"passes": self._count})] if self._count else []
