"""Tests of many made examples: some in each run of the suite, all of them where the slow tests are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

if TYPE_CHECKING:
    from collections.abc import Callable


def sweep(few: int, many: int, *strategies: Any) -> Callable[[Any], Any]:
    """Try a test with ``few`` examples; its slow twin, which stands beside it in its module, tries ``many``."""

    def made(function: Any, count: int) -> Any:
        return settings(max_examples=count, deadline=None)(given(*strategies)(function))

    def decorate(function: Any) -> Any:
        twin = pytest.mark.slow(made(function, many))
        twin.__name__ = f"{function.__name__}_at_length"
        function.__globals__[twin.__name__] = twin
        return made(function, few)

    return decorate
