"""Parameter and Variable: tensors that begin a graph of their own from values that another graph computed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.recording.isolation.hidden import hidden

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Constructor"]


class Constructor:
    """Observes the construction of a class of tensors: only ``__new__`` sees both the value and the result."""

    def __init__(self, owner: type, show: Callable[[str, torch.Tensor, Any], None]) -> None:
        self._owner = owner
        self._show = show
        self._own: Any = vars(owner).get("__new__")

    def install(self) -> None:
        """Replace ``__new__`` of the class."""
        original, show, name = self._owner.__new__, self._show, self._owner.__name__

        def new(cls: type, *args: Any, **kwargs: Any) -> Any:
            made = original(cls, *args, **kwargs)
            if args and type(args[0]) is torch.Tensor and type(made) in {torch.Tensor, torch.nn.Parameter}:
                with suppress(RuntimeError, TypeError, AttributeError), hidden():
                    show(name, made, args[0])
            return made

        self._owner.__new__ = new  # type: ignore[method-assign,assignment]

    def uninstall(self) -> None:
        """Restore the original, or delete ours where the class had inherited it."""
        if self._own is None:
            if "__new__" in vars(self._owner):
                del self._owner.__new__
        else:
            self._owner.__new__ = self._own  # type: ignore[method-assign]
