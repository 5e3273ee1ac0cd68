"""Functions of torch that the script has replaced, so that its replacement runs once, as without us.

A function of torch that is written in Python hands its call over by its public name. Where the script put a
wrapper there, that is the wrapper: it would run again, around itself.
"""

from __future__ import annotations

import os
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import handle_torch_function

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["TRUSTED", "meant"]

_TORCH = os.path.join(os.path.dirname(os.path.abspath(torch.__file__)), "")
_HAND_OVER = handle_torch_function.__code__
# Operators of torch are objects that hand themselves over.
_COMPILED = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, torch._ops.OperatorBase)
# Functions of torch itself, which mean themselves.
TRUSTED: set[Any] = set()
_originals: dict[CodeType, FunctionType] = {}


def meant(function: Callable[..., Any], caller: FrameType) -> Callable[..., Any]:
    """Return the function of torch whose call ``caller`` hands over under the name that ``function`` has now."""
    if isinstance(function, _COMPILED) or _is_torch(getattr(function, "__code__", None)):
        TRUSTED.add(function)
        return function
    running = caller.f_back
    if caller.f_code is not _HAND_OVER or running is None or not _is_torch(running.f_code):
        return function
    code = running.f_code
    if code not in _originals:
        # It is called with all its arguments; the cells of a closure only its own object knows.
        if code.co_freevars:
            return function
        _originals[code] = FunctionType(code, running.f_globals, code.co_name)
    return _originals[code]


def _is_torch(code: CodeType | None) -> bool:
    return code is not None and code.co_filename.startswith(_TORCH)
