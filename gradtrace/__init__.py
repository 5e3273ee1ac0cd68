"""See, teach and debug a backward pass: the grad_fn graph of any PyTorch script, with its gradients."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradtrace.api import GradientReport, Recording, Trace, draw, gradcheck, load, make_dot, record
    from gradtrace.drawing.theme import Theme
    from gradtrace.errors import GradtraceError
    from gradtrace.fold import View
    from gradtrace.formats.base import Style
    from gradtrace.watching import watch

__all__ = [
    "GradientReport",
    "GradtraceError",
    "Recording",
    "Style",
    "Theme",
    "Trace",
    "View",
    "__version__",
    "draw",
    "gradcheck",
    "load",
    "make_dot",
    "record",
    "watch",
]

__version__ = "0.1.0"

# Resolved when first used (PEP 562), so that `import gradtrace` costs nothing.
_HOMES = {
    "GradtraceError": "gradtrace.errors",
    "Style": "gradtrace.formats.base",
    "Theme": "gradtrace.drawing.theme",
    "View": "gradtrace.fold",
    "watch": "gradtrace.watching",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "gradtrace.api")), name)


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Give a notebook the cell magic ``%%gradtrace``; what ``%load_ext gradtrace`` calls."""
    import_module("gradtrace.integrations.jupyter").load(shell)
