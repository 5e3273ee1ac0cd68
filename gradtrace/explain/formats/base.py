"""The registry of the formats that an explanation can be written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gradtrace.registry import Registry

if TYPE_CHECKING:
    from gradtrace.explain.explanation import Explanation

__all__ = ["EXPLANATIONS", "register"]

# Given the explanation, and the columns that text may have.
Format = Callable[["Explanation", int], str]

EXPLANATIONS: Registry[Format] = Registry("format", "gradtrace.explain.formats", "gradtrace.explanations")
register = EXPLANATIONS.register
