"""Modules of the script and their tensors, found without calling methods that its classes may override."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["named_modules", "named_tensors"]


def named_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a module and its submodules, once each, with their paths, as ``nn.Module.named_modules`` does."""
    seen: set[int] = set()
    waiting: list[tuple[str, nn.Module]] = [("", root)]
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        inner = [(name, part) for name, part in module._modules.items() if part is not None]
        waiting += [(f"{path}.{name}" if path else name, part) for name, part in reversed(inner)]


def named_tensors(root: nn.Module, *, buffers: bool = True) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters below a module, then its buffers, once each, with their paths."""
    parts = [*named_modules(root)]
    seen: set[int] = set()
    for kind in ("_parameters", "_buffers") if buffers else ("_parameters",):
        for path, module in parts:
            for name, tensor in getattr(module, kind).items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{path}.{name}" if path else name, tensor
