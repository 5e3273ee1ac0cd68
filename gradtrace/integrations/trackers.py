"""What a callback logs of a step that was watched, and how TensorBoard and Weights & Biases are given its picture."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from gradtrace.errors import EngineError
from gradtrace.norms import final_norms
from gradtrace.watching import watch
from gradtrace.wording.findings import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from gradtrace.api import Trace
    from gradtrace.watching import Watch

__all__ = ["FINDINGS", "PICTURE", "Entry", "Watcher", "add_media", "image"]

PREFIX = "gradtrace"
FINDINGS, PICTURE = f"{PREFIX}/findings", f"{PREFIX}/picture"


class Entry(NamedTuple):
    """A watched step for a logger: numbers by tag, the findings as text, and the picture as PNG."""

    numbers: dict[str, float]
    text: str
    picture: bytes | None


class Watcher:
    """Part of a callback that is the same in all trainers.

    Args:
        picture: draw the first step that is watched, and each that has findings.
        options: arguments of ``gradtrace.watch``.
    """

    def __init__(self, options: dict[str, Any], *, picture: bool) -> None:
        self.watch: Watch = watch(**options)  # wrong arguments are refused before the training
        self._wants_picture = picture
        self._drawn = False

    def start(self, model: Any, steps: int) -> None:
        """Name what is recorded by the paths in ``model``; the trainer has made so many steps before."""
        self.watch.model = model
        self.watch.number = steps + 1

    def stop(self) -> None:
        """Record no more; of a step that was not ended nothing is said."""
        self.watch.__exit__(RuntimeError)
        self.watch.model = None

    def end(self, log: Callable[[Entry], Any]) -> None:
        """End a step; if it was watched, hand ``log`` what is to be logged, and then act on what was found."""
        self.watch.end(lambda trace: log(self._entry(trace)))

    def _entry(self, trace: Trace) -> Entry:
        numbers = {f"{PREFIX}/norm/{name}": norm for name, norm in final_norms(trace).items()}
        numbers[FINDINGS] = float(len(self.watch.findings))
        text = as_text(self.watch.findings)
        if not (self._wants_picture and trace.passes and (text or not self._drawn)):
            return Entry(numbers, text, None)
        self._drawn = True
        try:
            picture = trace.drawn("png")
        except EngineError as error:  # a picture that can't be drawn ends no training
            return Entry(numbers, f"{text}no picture: {error}\n", None)
        return Entry(numbers, text, picture if isinstance(picture, bytes) else None)


def image(picture: bytes) -> Image:
    """Return a PNG as Pillow's image, which TensorBoard and Weights & Biases install and take."""
    from PIL import Image as Pillow  # noqa: PLC0415 - comes with the loggers

    return Pillow.open(io.BytesIO(picture)).convert("RGB")


def add_media(experiment: Any, entry: Entry, step: int) -> None:
    """Give the text and the picture to a SummaryWriter or a run of Weights & Biases; others have no common way."""
    if hasattr(experiment, "add_image") and hasattr(experiment, "add_text"):
        _add_to_writer(experiment, entry, step)
    elif type(experiment).__module__.split(".")[0] == "wandb":
        _log_to_run(experiment, entry)


def _add_to_writer(writer: Any, entry: Entry, step: int) -> None:
    if entry.text:
        writer.add_text(FINDINGS, f"```\n{entry.text}```", step)
    if entry.picture is not None:
        import numpy as np  # noqa: PLC0415 - where there is a picture

        writer.add_image(PICTURE, np.asarray(image(entry.picture)), step, dataformats="HWC")
    writer.flush()


def _log_to_run(run: Any, entry: Entry) -> None:
    """Log to the row of the step that is open: a number for it would close the row, or be refused as past."""
    import wandb  # noqa: PLC0415 - the run's own package

    media: dict[str, Any] = {}
    if entry.text:
        media[f"{FINDINGS}_text"] = wandb.Html(f"<pre>{escape(entry.text)}</pre>")
    if entry.picture is not None:
        media[PICTURE] = wandb.Image(image(entry.picture))
    if media:
        run.log(media)
