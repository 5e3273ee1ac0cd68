"""The callback for Lightning: ``Trainer(callbacks=[gradtrace.integrations.lightning.Watch(every=100)])``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradtrace.integrations.trackers import Entry, Watcher, add_media

# A Trainer of the older package asks its callbacks to be of that one.
if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    import pytorch_lightning as pl
else:
    from lightning import pytorch as pl

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["Watch"]


class Watch(pl.Callback):
    """Watches steps of the optimizer, and logs norms, findings and the picture through the Trainer's loggers.

    Args:
        every: watch each step whose number, from 1, is a multiple of it; 0 for none.
        also: numbers of further steps.
        out: where the trace of each watched step is saved, as for ``gradtrace.watch``.
        on_finding: ``"warn"``, ``"raise"``, ``"ignore"``, or a function of the findings and the trace.
        picture: draw the first step that is watched, and each that has findings.
    """

    def __init__(
        self,
        every: int = 100,
        *,
        also: Collection[int] = (1, 2),
        out: str | Path | None = None,
        on_finding: Any = "warn",
        picture: bool = True,
    ) -> None:
        options = {"every": every, "also": also, "out": out, "on_finding": on_finding}
        self._watcher = Watcher(options, picture=picture)
        self._steps = 0  # of the optimizer, when the last step ended

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count on from what the Trainer has made, where it resumes."""
        self._steps = trainer.global_step
        self._watcher.start(pl_module, trainer.global_step)

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin a step, unless gradients of several batches are accumulated and this is not the first."""
        self._watcher.watch.begin()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """End the step if the optimizer has made one."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self._watcher.end(lambda entry: _log(trainer, entry))

    def on_train_end(self, *_: Any) -> None:
        """Stop in the middle of a step, too."""
        self._watcher.stop()

    def on_exception(self, *_: Any) -> None:
        """Stop where the training fails."""
        self._watcher.stop()


def _log(trainer: pl.Trainer, entry: Entry) -> None:
    step = trainer.global_step
    for logger in trainer.loggers if trainer.is_global_zero else ():
        logger.log_metrics(entry.numbers, step=step)
        add_media(logger.experiment, entry, step)
