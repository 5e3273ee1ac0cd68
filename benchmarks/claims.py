"""What docs/comparison.md claims of the alternatives that are installed with gradtrace: each claim, checked.

Run it as it is; it prints one line per claim and ends with 1 if one no longer holds.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import torch
import torchviz

import gradtrace

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURE = """
import torch, torchviz
filler = [object() for _ in range({0})]
x = torch.tensor(3.0, requires_grad=True)
print(torchviz.make_dot((x**2).exp()).source)
"""
OURS = """
import torch, gradtrace
x = torch.tensor(3.0, requires_grad=True)
print(gradtrace.draw((x**2).exp()).drawn("dot"))
"""


def _printed(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout  # noqa: S603


def _chain(length: int) -> torch.Tensor:
    value = torch.tensor(1.0, requires_grad=True)
    for _ in range(length):
        value = value * 1.0
    return value


def torchviz_shows_no_gradient_and_no_line() -> bool:
    """The slope of x² at 9 is 18: ours says so, torchviz's source has neither 18 nor the expression."""
    x = torch.tensor(9.0, requires_grad=True)
    y = x**2
    theirs, ours = torchviz.make_dot(y, {"x": x}).source, gradtrace.draw(y).drawn("text")
    return "18" in str(ours) and not any(word in theirs for word in ("= 18", ">18", " 18\\n", "x**2", "claims.py"))


def torchviz_differs_from_run_to_run() -> bool:
    """Its nodes are named by address; ours are the same in every process."""
    return (
        len({_printed(PICTURE.format(n)) for n in (10, 200_000)}) > 1 and len({_printed(OURS) for _ in range(2)}) == 1
    )


def torchviz_recurses() -> bool:
    """A few thousand operations in a row are too many for it, and none for us."""
    long = _chain(3000)
    try:
        torchviz.make_dot(long)
    except RecursionError:
        return len(gradtrace.draw(long).passes[-1].nodes) > 3000  # noqa: PLR2004
    return False


CLAIMS: tuple[Callable[[], bool], ...] = (
    torchviz_shows_no_gradient_and_no_line,
    torchviz_differs_from_run_to_run,
    torchviz_recurses,
)

if __name__ == "__main__":
    held = {claim.__name__: claim() for claim in CLAIMS}
    for name, holds in held.items():
        print("holds" if holds else "FAILS", name.replace("_", " "))
    sys.exit(0 if all(held.values()) else 1)
