"""The callback for transformers' Trainer: ``Trainer(callbacks=[Watch(every=100)])``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from gradtrace.errors import GradtraceError
from gradtrace.integrations.trackers import Entry, Watcher, add_media

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["Watch"]

REPORTERS = tuple(INTEGRATION_TO_CALLBACK.values())


class Watch(TrainerCallback):
    """Watches steps of the optimizer, and logs norms, findings and the picture where the Trainer reports to.

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
        self._trainer: Any = None

    def on_train_begin(self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
        """Count on from what the Trainer has made, where it resumes."""
        self._watcher.stop()  # of a training that failed, of which no callback is told
        self._trainer = _calling_trainer()
        self._watcher.start(model, state.global_step)
        self._stop_where_it_fails()

    def _stop_where_it_fails(self) -> None:
        """Record no more when a step of the training raises."""
        trainer = self._trainer
        training_step = trainer.training_step

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return training_step(*args, **kwargs)
            except BaseException:
                self._stop()
                raise

        trainer.training_step = watched

    def _stop(self) -> None:
        self._watcher.stop()
        if self._trainer is not None:
            self._trainer.__dict__.pop("training_step", None)
            self._trainer = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Begin a step, which may be of several batches."""
        self._watcher.watch.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End the step."""
        self._watcher.end(lambda entry: self._log(entry, args, state, control))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop."""
        self._stop()

    def _log(self, entry: Entry, args: Any, state: Any, control: Any) -> None:
        """Log to the Trainer's reporters alone: ``Trainer.log`` would print each number, too."""
        if not state.is_world_process_zero:
            return
        for reporter in self._trainer.callback_handler.callbacks:
            if isinstance(reporter, REPORTERS):
                reporter.on_log(args, state, control, logs=dict(entry.numbers), model=self._watcher.watch.model)
                add_media(_experiment(reporter), entry, state.global_step)


def _experiment(reporter: Any) -> Any:
    wandb = getattr(reporter, "_wandb", None)
    return wandb.run if wandb is not None else getattr(reporter, "tb_writer", None)


def _calling_trainer() -> Any:
    """Return the Trainer that calls its callbacks, which hands them everything but itself."""
    frame = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        owner = frame.f_locals.get("self") if frame.f_code.co_filename != __file__ else None
        if isinstance(owner, Trainer):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    raise GradtraceError("no transformers.Trainer calls this callback", "pass it in Trainer(callbacks=[...])")
