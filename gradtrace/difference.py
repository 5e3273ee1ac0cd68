"""Structs of the difference between two traces."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gradtrace.model import Source, TensorStats

__all__ = ["Change", "Difference"]


class Change(Struct, frozen=True, omit_defaults=True):
    """A node whose gradient differs: its pass and ids in both, what it is, both gradients, how far apart.

    ``relative`` is the largest difference over the scale of the larger one; None where there is no number
    for it (one is missing, of another shape, or not finite).
    """

    pass_index: int
    before_id: str
    after_id: str
    kind: Literal["output", "function", "leaf"]
    label: str
    source: Source | None = None
    before: TensorStats | None = None
    after: TensorStats | None = None
    relative: float | None = None


class Difference(Struct, frozen=True, omit_defaults=True):
    """Difference of two traces: gradients in backward order, nodes that went and came, and why perhaps.

    ``come_ids`` are the pass and the id, in the second trace, of each node in ``come``.
    """

    changes: tuple[Change, ...] = ()
    gone: tuple[str, ...] = ()
    come: tuple[str, ...] = ()
    come_ids: tuple[tuple[int, str], ...] = ()
    passes: tuple[int, int] = (0, 0)
    reasons: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Tell whether anything does."""
        return bool(self.changes or self.gone or self.come or self.passes[0] != self.passes[1])
