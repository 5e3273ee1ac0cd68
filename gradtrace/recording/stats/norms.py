"""Norms of many gradients at once, for passes of which nothing else is needed."""

from __future__ import annotations

import math
from typing import Any

import torch

from gradtrace.recording.isolation.hidden import call_hidden
from gradtrace.recording.stats.device import DEVICE_FULL, Away, give_up, keep_norms, require_measurable
from gradtrace.recording.stats.measure import kind_of, measure
from gradtrace.recording.stats.reduce import readable
from gradtrace.recording.stats.routes import Route
from gradtrace.recording.stats.tensor_stats import norm_of

__all__ = ["norms_or_places"]

_ON_DEVICE = {Route.SMALL_DEVICE, Route.DEVICE}


def norms_or_places(grads: list[Any]) -> list[Any]:
    """Return the norm in place of each tensor in a list; on a device, the pending numbers and its position in them."""
    found, far = list(grads), []
    for at, grad in enumerate(grads):
        if grad is None or type(grad) is float:
            continue
        is_far = kind_of(grad)[0].route in _ON_DEVICE
        norm = None if is_far else norm_of(measure(grad))
        found[at] = math.nan if norm is None else norm
        far += [at] if is_far else []
    if far:
        for at, place in zip(far, call_hidden(_norms_on_device, [grads[at] for at in far]), strict=False):
            found[at] = place
    return found


def _norms_on_device(grads: list[torch.Tensor]) -> list[tuple[Away, int]]:
    try:
        require_measurable(grads[0].device)
        return keep_norms([readable(grad) for grad in grads])
    except torch.OutOfMemoryError:
        give_up(DEVICE_FULL)
    except RuntimeError:
        pass  # freed, or the device failed: no norm
    return []
