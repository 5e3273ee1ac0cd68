"""Tensors that begin a graph of their own though they hold what another graph computed: Parameter and Variable."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.isolation.hidden import hidden

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Constructor"]


class Constructor:
    """Shows what a class of tensors is made of while it is installed: ``__new__`` is the one place that sees both."""

    def __init__(self, owner: type, show: Callable[[str, torch.Tensor, Any], None]) -> None:
        self._owner = owner
        self._show = show
        self._own: Any = vars(owner).get("__new__")

    def install(self) -> None:
        """Put our ``__new__`` there."""
        original, show, name = self._owner.__new__, self._show, self._owner.__name__

        def new(cls: type, *args: Any, **kwargs: Any) -> Any:
            made = original(cls, *args, **kwargs)
            if args and type(args[0]) is torch.Tensor and type(made) in {torch.Tensor, torch.nn.Parameter}:
                with suppress(RuntimeError, TypeError, AttributeError), hidden():
                    show(name, made, args[0])
            return made

        self._owner.__new__ = new  # type: ignore[method-assign,assignment]

    def uninstall(self) -> None:
        """Put the original back, or nothing where the class had inherited it."""
        if self._own is None:
            if "__new__" in vars(self._owner):
                del self._owner.__new__
        else:
            self._owner.__new__ = self._own  # type: ignore[method-assign]
