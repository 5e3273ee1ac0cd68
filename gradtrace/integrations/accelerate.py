"""Watching for accelerate: ``with watch(accelerator, model, every=100) as steps:``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradtrace.integrations.trackers import Entry, Watcher, add_media

if TYPE_CHECKING:
    from collections.abc import Iterator

    from accelerate import Accelerator

__all__ = ["Steps", "watch"]


class Steps:
    """What ``watch`` gives: ``step()`` is to be called at the end of each pass of the loop."""

    def __init__(self, watcher: Watcher, accelerator: Accelerator) -> None:
        self._watcher = watcher
        self._accelerator = accelerator

    def step(self) -> None:
        """End a step, unless gradients are being accumulated; log it if it was watched."""
        if self._accelerator.sync_gradients:
            self._watcher.end(self._log)
            self._watcher.watch.begin()

    def _log(self, entry: Entry) -> None:
        if self._accelerator.is_main_process:
            step = self._watcher.watch.number
            self._accelerator.log(entry.numbers, step=step)
            for tracker in self._accelerator.trackers:
                add_media(tracker.tracker, entry, step)


@contextmanager
def watch(
    accelerator: Accelerator,
    model: Any = None,
    *,
    picture: bool = True,
    steps: int = 0,
    **options: Any,
) -> Iterator[Steps]:
    """Watch steps of a loop, and log norms, findings and the picture through the accelerator's trackers.

    Args:
        accelerator: on which ``init_trackers`` was called.
        model: a module by whose paths the parameters are called.
        picture: draw the first step that is watched, and each that has findings.
        steps: how many were made before, where the training resumes.
        options: arguments of ``gradtrace.watch``: ``every``, ``also``, ``out``, ``on_finding``.
    """
    watcher = Watcher(options, picture=picture)
    watcher.start(None if model is None else accelerator.unwrap_model(model), steps)
    watcher.watch.begin()
    try:
        yield Steps(watcher, accelerator)
    finally:
        watcher.stop()
