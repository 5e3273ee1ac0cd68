"""Circumstances that make some calls not finite: too few elements, targets that are all ignored or too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.model import Attribute

__all__ = ["circumstances"]

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
IGNORED = -100


def circumstances(name: str, args: Args, kwargs: Kwargs) -> dict[str, Attribute]:
    """Return the circumstances of a call of this name, apart from its operands at one element."""
    look = _LOOKS.get(name)
    return look(args, kwargs) if look is not None else {}


def _all_ignored(args: Args, kwargs: Kwargs) -> dict[str, Attribute]:
    """Tell whether each target of a cross entropy is the index that is ignored."""
    target = kwargs.get("target", args[1] if len(args) > 1 else None)
    ignored = kwargs.get("ignore_index", IGNORED)
    if not isinstance(target, torch.Tensor) or target.is_floating_point():
        return {}
    return {"ignored": ignored} if bool((target == ignored).all()) else {}


def _too_long(args: Args, kwargs: Kwargs) -> dict[str, Attribute]:
    """Return the first target of a CTC loss that is too long for its input, with both lengths."""
    names = ("log_probs", "targets", "input_lengths", "target_lengths")
    given = dict(zip(names, args, strict=False)) | kwargs
    lengths = [_lengths(given.get(name)) for name in names[2:]]
    for row, (steps, length) in enumerate(zip(*lengths, strict=False)):
        needed = length + _repeats(given["targets"], row, lengths[1])
        if needed > steps:
            return {"row": row, "steps": steps, "target": length, "needed": needed}
    return {}


def _lengths(given: Any) -> list[int]:
    if isinstance(given, torch.Tensor):
        return [int(length) for length in given.reshape(-1).tolist()]
    return [int(length) for length in given] if isinstance(given, (list, tuple)) else []


def _repeats(targets: torch.Tensor, row: int, lengths: list[int]) -> int:
    """Return the number of labels equal to the one before, each of which needs a blank between."""
    start = sum(lengths[:row])
    label = targets[row, : lengths[row]] if targets.dim() > 1 else targets[start : start + lengths[row]]
    return int((label[1:] == label[:-1]).sum())


def _rows(args: Args, kwargs: Kwargs) -> dict[str, Attribute]:
    """Return the first row of a softmax that is all -infinity, or holds +infinity or NaN."""
    tensor, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else -1)
    if not isinstance(tensor, torch.Tensor) or not isinstance(dim, int) or not tensor.dim():
        return {}
    rows = tensor.detach().movedim(dim, -1)
    for word, mask in (("all", (rows == -torch.inf).all(-1)), ("high", (rows == torch.inf).any(-1))):
        if bool(mask.any()):
            index = [int(i) for i in mask.nonzero()[0]]
            index.insert(dim % tensor.dim(), -1)
            return {"row": [":" if i < 0 else i for i in index], "holds": word}
    return {}


def _singular(args: Args, _: Kwargs) -> dict[str, Attribute]:
    """Tell whether a matrix has no inverse."""
    return {"singular": True} if bool((torch.linalg.det(args[0].detach()) == 0).any()) else {}


_LOOKS: dict[str, Callable[[Args, Kwargs], dict[str, Attribute]]] = {
    "cross_entropy": _all_ignored,
    "nll_loss": _all_ignored,
    "ctc_loss": _too_long,
    "logdet": _singular,
    "slogdet": _singular,
    "linalg_slogdet": _singular,
    "softmax": _rows,
    "log_softmax": _rows,
}
