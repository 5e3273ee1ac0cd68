"""Entry of the script: the frame in which it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["OUTERMOST", "execute"]


def execute(code: CodeType, namespace: dict[str, Any]) -> BaseException | None:
    """Run the code and return what it raised."""
    try:
        exec(code, namespace)  # noqa: S102 - running the script is what this is for
    except BaseException as error:  # noqa: BLE001 - whatever ends the script is the script's, even SystemExit
        return error
    return None


# A script's frames end here: those beyond belong to gradtrace and the command that started it.
OUTERMOST = execute.__code__
