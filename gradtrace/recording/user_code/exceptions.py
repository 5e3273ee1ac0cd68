"""Exceptions of the script, whose methods may raise themselves."""

from __future__ import annotations

__all__ = ["message_of"]


def message_of(error: BaseException) -> str:
    """Return what an exception says, in python's words where it can't."""
    try:
        return str(error).strip()
    except Exception:  # noqa: BLE001 - its __str__ is the script's
        return "<exception str() failed>"
