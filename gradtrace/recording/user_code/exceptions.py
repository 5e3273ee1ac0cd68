"""Exceptions of the script, whose methods may raise themselves."""

from __future__ import annotations

__all__ = ["message_of"]


def message_of(error: BaseException) -> str:
    """Return the message of an exception, or python's replacement where ``str()`` of it raises."""
    try:
        return str(error).strip()
    except Exception:  # noqa: BLE001 - its __str__ is the script's
        return "<exception str() failed>"
