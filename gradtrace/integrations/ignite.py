"""The handler for ignite: ``gradtrace.integrations.ignite.Watch(every=100).attach(trainer, model, tb_logger)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from gradtrace.integrations.trackers import Entry, Watcher, add_media

if TYPE_CHECKING:
    from ignite.engine import Engine

__all__ = ["Watch"]


class Watch:
    """Watches iterations of an engine, and logs norms, findings and the picture to ignite's loggers.

    Args:
        picture: draw the first iteration that is watched, and each that has findings.
        options: arguments of ``gradtrace.watch``: ``every``, ``also``, ``out``, ``on_finding``.
    """

    def __init__(self, *, picture: bool = True, **options: Any) -> None:
        self._watcher = Watcher(options, picture=picture)
        self._loggers: tuple[Any, ...] = ()

    def attach(self, engine: Engine, model: Any, *loggers: Any) -> None:
        """Watch this engine.

        Args:
            engine: the trainer.
            model: a module by whose paths the parameters are called.
            loggers: a TensorboardLogger, a WandBLogger, a ClearMLLogger ...; a SummaryWriter is taken, too.
        """
        self._loggers = loggers
        engine.add_event_handler(Events.STARTED, lambda engine: self._watcher.start(model, engine.state.iteration))
        engine.add_event_handler(Events.ITERATION_STARTED, self._watcher.watch.begin)
        engine.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine: self._watcher.end(lambda entry: self._log(entry, engine.state.iteration)),
        )
        for event in (Events.COMPLETED, Events.TERMINATE, Events.INTERRUPT):
            engine.add_event_handler(event, self._watcher.stop)
        self._stop_where_it_fails(engine)

    def _stop_where_it_fails(self, engine: Engine) -> None:
        """Record no more when a step raises; a handler of EXCEPTION_RAISED would keep the error from the script."""
        process = engine._process_function  # noqa: SLF001

        def watched(*args: Any) -> Any:
            try:
                return process(*args)
            except BaseException:
                self._watcher.stop()
                raise

        engine._process_function = watched  # noqa: SLF001

    def _log(self, entry: Entry, step: int) -> None:
        for logger in self._loggers:
            experiment = getattr(logger, "writer", logger)
            if hasattr(experiment, "add_scalar"):
                for name, number in entry.numbers.items():
                    experiment.add_scalar(name, number, step)
                add_media(experiment, entry, step)
            else:  # ignite's loggers pass on what their packages have
                _log_to_package(logger, entry, step)


def _log_to_package(logger: Any, entry: Entry, step: int) -> None:
    run = getattr(logger, "run", None)
    if run is not None and type(run).__module__.split(".")[0] == "wandb":
        run.log(entry.numbers | {"iteration": step})
        add_media(run, entry, step)
    else:
        logger.log_metrics(entry.numbers, step=step)
