"""Monkeypatched functions of torch: the script's replacement runs once, as without gradtrace.

A function of torch that is written in Python dispatches to the mode under its public name, a method written in C under
its name in ``torch.Tensor``. If the script put a wrapper there, that name gives the wrapper, which would run again,
inside itself.
"""

from __future__ import annotations

import gc
import os
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import handle_torch_function

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["TRUSTED", "original_of"]

_TORCH = os.path.join(os.path.dirname(os.path.abspath(torch.__file__)), "")
_HAND_OVER = handle_torch_function.__code__
# Operators of torch, which pass themselves to the mode.
_OPERATORS = (torch._ops.OperatorBase, torch._ops.OpOverloadPacket)
_COMPILED = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, *_OPERATORS)
# Namespaces of the functions that dispatch to the mode by name.
_OWNERS: tuple[Any, ...] = (torch, torch.Tensor, torch.functional, torch.nn.functional, torch.nn.init, torch.autograd)
# Functions of torch known to be original.
TRUSTED: set[Any] = set()


def original_of(function: Callable[..., Any], caller: FrameType) -> Callable[..., Any]:
    """Return the function of torch whose call ``caller`` dispatches, under the name that ``function`` has now."""
    if isinstance(function, _COMPILED) or _is_attribute(function) or _is_torch(getattr(function, "__code__", None)):
        TRUSTED.add(function)
        return function
    if caller.f_code is not _HAND_OVER:
        return _method(function)
    running = caller.f_back
    if running is not None and not _asks(running.f_code):
        running = running.f_back  # a helper that only dispatches
    return function if running is None or not _is_torch(running.f_code) else _original(running) or function


def _is_attribute(function: Callable[..., Any]) -> bool:
    """Tell whether this reads, sets or deletes a tensor attribute that is written in C, such as ``shape``."""
    return isinstance(function, MethodWrapperType) and isinstance(function.__self__, GetSetDescriptorType)


def _asks(code: CodeType) -> bool:
    """Tell whether this code first checks for an override."""
    return any(name.startswith("has_torch_function") for name in code.co_names)


def _is_torch(code: CodeType | None) -> bool:
    return code is not None and code.co_filename.startswith(_TORCH)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method written in C that dispatches by its name in ``torch.Tensor``."""
    base = vars(torch._C.TensorBase)  # its methods can't be replaced
    at_get = getattr(function, "__self__", None) if isinstance(function, MethodWrapperType) else None
    for name, value in vars(torch.Tensor).items():
        if value is function and name in base:
            return getattr(torch._C.TensorBase, name)  # type: ignore[no-any-return]
        if value is at_get is not None and name in base:
            return getattr(base[name], function.__name__)  # type: ignore[no-any-return]
    return function


def _functions() -> dict[CodeType, list[FunctionType]]:
    """Return the functions of torch by code object; functions made by one factory share theirs."""
    found: dict[CodeType, list[FunctionType]] = {}
    for owner in _OWNERS:
        for value in vars(owner).values():
            if isinstance(value, FunctionType) and _is_torch(value.__code__):
                found.setdefault(value.__code__, []).append(value)
    return found


# Functions that existed before the script.
_known = _functions()


def _original(running: FrameType) -> FunctionType | None:
    """Return the function that this frame runs, which may be called without its default arguments."""
    code = running.f_code
    if code not in _known:  # replaced before gradtrace was imported
        _known[code] = [found for found in gc.get_referrers(code) if isinstance(found, FunctionType)]
    inside = running.f_locals if code.co_freevars else {}
    for candidate in _known[code]:
        cells = zip(code.co_freevars, candidate.__closure__ or (), strict=True)
        if all(cell.cell_contents is inside.get(name) for name, cell in cells):
            return candidate
    return None
