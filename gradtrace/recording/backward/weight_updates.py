"""Weights and their updates: the norm of each parameter before an optimizer step, and of its change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradtrace.model import UpdateSeries
from gradtrace.recording.isolation.hidden import hidden
from gradtrace.recording.isolation.patch import Registered
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradtrace.recording.stats.kinds import Measured

__all__ = ["WeightUpdates"]


class _Row(NamedTuple):
    """Parameter at one step: measurements of the weight before it and of the change."""

    step: int
    weight: Measured
    update: Measured


class WeightUpdates:
    """Measures the parameters of optimizers at every ``every``-th step, of which it holds a copy during the step.

    Args:
        every: measure at each step whose number, from 0, is a multiple of it; 0 for none.
        step: the number of the current step.
        name: the name of a parameter, or an empty string.
    """

    def __init__(self, every: int, step: Callable[[], int], name: Callable[[torch.Tensor], str | None]) -> None:
        self._every = every
        self._step = step
        self._name = name
        self._before: dict[int, tuple[torch.Tensor, Measured, int]] = {}
        self._rows: dict[tuple[str, tuple[int, ...]], list[_Row]] = {}

    def parts(self) -> list[Registered]:
        """Return the hooks around an optimizer's step."""
        if not self._every:
            return []
        before, after = register_optimizer_step_pre_hook, register_optimizer_step_post_hook
        return [Registered(before, self._copy), Registered(after, self._compare)]

    def found(self) -> tuple[UpdateSeries, ...]:
        """Return the rows of each parameter, in order of first appearance."""
        reduce_pending([found for rows in self._rows.values() for row in rows for found in row[1:]])
        return tuple(_series(name, shape, rows) for (name, shape), rows in self._rows.items())

    def _copy(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._before = {}
        step = self._step()
        if step % self._every:
            return
        with hidden():
            for parameter in _parameters(optimizer):
                self._before[id(parameter)] = parameter.detach().clone(), measure(parameter.detach()), step

    def _compare(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        before, self._before = self._before, {}
        with hidden():
            for index, parameter in enumerate(_parameters(optimizer)):
                if id(parameter) in before:
                    copy, weight, step = before[id(parameter)]
                    key = self._name(parameter) or f"parameter {index}", tuple(parameter.shape)
                    self._rows.setdefault(key, []).append(_Row(step, weight, measure(parameter.detach() - copy)))


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return those parameters that have a gradient: others do not change."""
    found = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [parameter for parameter in found if parameter.grad is not None]


def _series(name: str, shape: tuple[int, ...], rows: list[_Row]) -> UpdateSeries:
    weights = [to_stats(row.weight) for row in rows]
    updates = [to_stats(row.update).norm for row in rows]
    norms = [weight.norm for weight in weights]
    return UpdateSeries(name, shape, [row.step for row in rows], norms, updates, [weight.zeros for weight in weights])
