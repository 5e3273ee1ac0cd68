"""Log of passes: loss, optimizer step, time and loss scale of each, whether or not the pass is kept."""

from __future__ import annotations

import math
import time
from array import array
from typing import TYPE_CHECKING, Any

import torch

from gradtrace.model import LearningRate, PassSeries
from gradtrace.recording.backward.thinning import thinned
from gradtrace.recording.stats.measure import measure
from gradtrace.recording.stats.reduce import reduce_pending
from gradtrace.recording.stats.tensor_stats import to_stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradtrace.recording.stats.kinds import Measured

__all__ = ["PassLog"]

_COLUMNS = 5  # pass, loss, step, seconds, scale
_LOSS, _SCALE = 1, 4
_UNKNOWN = -math.inf  # replaces a loss or a scale that was not measured
_WAITING = 2000
MOST_PASSES = 200_000


class PassLog:
    """A row for each pass, and the learning rate of each optimizer step at which it changed."""

    def __init__(self) -> None:
        self.steps = 0
        self._began = time.perf_counter()
        self._rows = array("d")  # flat: a signal handler that raises leaves no half row
        self._waiting: list[tuple[int, Measured]] = []  # position of a number, and its measurement
        self._rates: list[LearningRate] = []
        self._scale: Measured | None = None
        self._level = 0  # of thinning

    def add(self, pass_index: int, outputs: Sequence[Any]) -> None:
        """Add the row of a pass that begins; its loss is the value of its only output, if that is a scalar."""
        at = len(self._rows)
        self._rows.extend((pass_index, _UNKNOWN, self.steps, time.perf_counter() - self._began, _UNKNOWN))
        loss = outputs[0] if len(outputs) == 1 else None
        if type(loss) is torch.Tensor:
            with torch._C.DisableTorchFunction():
                if not loss.dim() and loss.is_floating_point():
                    measured = measure(loss)
                    if type(measured[1]) is float:  # the usual case: a number that is known already
                        self._rows[at + _LOSS] = measured[1] if math.isfinite(measured[1]) else math.nan
                    else:
                        self._waiting.append((at + _LOSS, measured))
        if self._scale is not None:
            self._waiting.append((at + _SCALE, self._scale))
            self._scale = None
        if len(self._waiting) > _WAITING or len(self._rows) > _COLUMNS * MOST_PASSES:
            self._write()
            self._thin()

    def step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Note a step of an optimizer and its learning rate, that of the first group of parameters."""
        rate = optimizer.param_groups[0].get("lr")
        if isinstance(rate, torch.Tensor):
            rate = rate.item() if rate.is_cpu else None  # reading it from a device would make the script wait
        if rate is not None and (not self._rates or self._rates[-1].rate != rate):
            self._rates.append(LearningRate(self.steps, float(rate)))
        self.steps += 1

    def scaling(self, scaler: torch.amp.GradScaler) -> None:
        """Note the scale by which a GradScaler has multiplied the loss of the next pass."""
        factor = getattr(scaler, "_scale", None)
        self._scale = measure(factor) if isinstance(factor, torch.Tensor) and scaler.is_enabled() else None

    def found(self) -> tuple[PassSeries, ...]:
        """Return the rows as columns; nothing where there was no pass."""
        self._write()
        if not self._rows:
            return ()
        passes, losses, steps, seconds, scales = (self._rows[column::_COLUMNS] for column in range(_COLUMNS))
        broken = [int(index) for index, loss in zip(passes, losses, strict=True) if not loss < math.inf]
        scaled = [scale if math.isfinite(scale) else None for scale in scales]
        return (
            PassSeries(
                list(map(int, passes)),
                [loss if math.isfinite(loss) else None for loss in losses],
                list(map(int, steps)),
                [round(second, 6) for second in seconds],
                broken,
                tuple(self._rates),
                scaled if any(scaled) else [],
            ),
        )

    def _thin(self) -> None:
        """Drop old rows if there are too many; no row is pending then."""
        while len(self._rows) > _COLUMNS * MOST_PASSES:
            self._level += 1
            self._rows = thinned(self._rows, self._level, _COLUMNS)

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        reduce_pending([measured for _, measured in waiting])
        for at, measured in waiting:
            value = to_stats(measured)
            self._rows[at] = value.mean if value.mean is not None else math.nan if value.nan or value.inf else _UNKNOWN
