"""DDP and FSDP2: which leaf of the graph is which parameter, and the gradient as reduced by the processes.

DDP runs the module with the parameters themselves, and their ``.grad`` is the mean over the processes once the engine
has returned. FSDP2 runs it with unsharded parameters; those of the script are their shards, DTensors whose
``.grad`` is the shard of the reduced gradient.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

__all__ = ["Reduced", "Wrappers", "is_wrapper_frame", "sharded_parameters"]

_WRAPPING = ("torch.nn.parallel.", "torch.distributed.")
_BETWEEN = ("gradtrace.", "torch._tensor", "torch.overrides", "torch.utils._contextlib", "contextlib")


class Reduced(NamedTuple):
    """A leaf, its gradient after the processes had reduced it, and the ranks that did so if not all."""

    leaf: torch.Tensor
    grad: torch.Tensor
    group: tuple[int, ...]


class Wrappers:
    """DDP and FSDP2 modules that were called."""

    def __init__(self) -> None:
        self.is_used = False  # checked at each pass, faster than the length of a weak dictionary
        # By DDP module, whether its last forward prepared a reduction, which is not so under no_sync().
        self._replicated: weakref.WeakKeyDictionary[DistributedDataParallel, bool] = weakref.WeakKeyDictionary()
        self._sharded: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()

    def called(self, module: torch.nn.Module) -> None:
        """Note that a module was called."""
        if isinstance(module, DistributedDataParallel):
            self.is_used = True
            syncs = module.require_backward_grad_sync and torch.is_grad_enabled()
            self._replicated[module] = bool(syncs) and module.process_group.size() > 1
        elif _is_fsdp(module):
            self.is_used = True
            self._sharded.add(module)

    def shards(self) -> dict[int, torch.Tensor]:
        """Return the script's parameters by the id of the leaf that stands for them in the graph."""
        if not self.is_used:
            return {}
        found = (each for module in list(self._sharded) for each in sharded_parameters(module))
        return {id(unsharded): sharded for _, unsharded, sharded in found if unsharded is not None}

    @property
    def joins(self) -> bool:
        """Whether a DDP module runs under ``join()``, where ranks may end earlier than others."""
        if not self.is_used:
            return False
        configs = (getattr(module, "_join_config", None) for module in list(self._replicated))
        return any(config is not None and config.enable for config in configs)

    def reduced(self, leaves: Iterable[torch.Tensor]) -> Iterator[Reduced]:
        """Yield those of these leaves whose gradient the processes have reduced, with the result."""
        if not self.is_used:
            return
        groups: dict[int, tuple[int, ...]] = {}
        for module, syncs in list(self._replicated.items()):
            if syncs and _has_reduced(module):
                groups |= dict.fromkeys(map(id, module.parameters()), _part_of_world(module.process_group))
        for sharded in list(self._sharded):
            groups |= {id(unsharded): _mesh(sharded) for _, unsharded, _ in sharded_parameters(sharded)}
        shards = self.shards() if self._sharded else {}
        for leaf in leaves:
            grad = shards[id(leaf)].grad if id(leaf) in shards else leaf.grad if id(leaf) in groups else None
            if grad is not None:
                yield Reduced(leaf, grad, groups.get(id(leaf), ()))


def _has_reduced(module: Any) -> bool:
    """Tell whether DDP is done with the gradients of its last pass: not where one of them never came."""
    try:
        module.reducer._check_reducer_finalized()
    except RuntimeError:
        return False
    return True


def _part_of_world(group: Any) -> tuple[int, ...]:
    """Return the ranks of a process group that not all are in."""
    ranks = torch.distributed.get_process_group_ranks(group)
    return tuple(ranks) if len(ranks) < torch.distributed.get_world_size() else ()


def _mesh(module: Any) -> tuple[int, ...]:
    """Return the ranks among which an FSDP2 module has shards or copies, if not all are."""
    try:
        ranks = module._get_fsdp_state()._fsdp_param_group.mesh_info.mesh.mesh.flatten().tolist()
    except AttributeError:
        return ()
    return tuple(ranks) if len(ranks) < torch.distributed.get_world_size() else ()


def _is_fsdp(module: torch.nn.Module) -> bool:
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(module, getattr(fsdp, "FSDPModule", ()))


def sharded_parameters(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor | None, torch.Tensor]]:
    """Yield the name, the unsharded and the sharded tensor of each parameter that an FSDP2 module manages."""
    if not _is_fsdp(module):
        return
    try:
        state: Any = module._get_fsdp_state()  # type: ignore[operator]
        groups = getattr(state, "_fsdp_param_groups", None) or [state._fsdp_param_group]
        for param in (param for group in groups if group is not None for param in group.fsdp_params):
            yield param._param_fqn or "", getattr(param, "_unsharded_param", None), param.sharded_param
    except AttributeError:
        return  # other versions of PyTorch store them elsewhere; leaves then have no names


def is_wrapper_frame(frame: FrameType | None) -> bool:
    """Tell whether such a wrapper, rather than the script, made a torch call."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(_BETWEEN):
            return name.startswith(_WRAPPING)
        frame = frame.f_back
    return False
