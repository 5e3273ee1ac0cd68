"""DOT text of a pass as torchviz draws it."""

from __future__ import annotations

import re
import warnings

import torch

from gradtrace.errors import EngineError

__all__ = ["torchviz_dot"]


def torchviz_dot(outputs: list[torch.Tensor], names: dict[str, torch.Tensor]) -> str:
    """Return torchviz's DOT text for the graph of ``outputs``; raises EngineError where torchviz fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchviz uses distutils
        import torchviz  # noqa: PLC0415 - 0.1 s, and only this style needs it

        try:
            with torch._C.DisableTorchFunction():
                source = torchviz.make_dot(tuple(outputs), params=names).source
        except RecursionError:
            raise EngineError("torchviz can't draw so deep a graph", "draw it without --style torchviz") from None
    return _renumbered(str(source))


def _renumbered(source: str) -> str:
    """Return the text with torchviz's node names, which are memory addresses, replaced by numbers from 1."""
    numbers: dict[str, str] = {}
    return re.sub(r"(?m)^\t(\d+)|(?<= -> )(\d+)", lambda found: _number(found, numbers), source)


def _number(found: re.Match[str], numbers: dict[str, str]) -> str:
    address = found.group(1) or found.group(2)
    number = numbers.setdefault(address, str(len(numbers) + 1))
    return f"\t{number}" if found.group(1) else number
