"""Callbacks in the real trainers: the training is the same to the bit, and the loggers hold the trace's numbers."""

from __future__ import annotations

import functools
import logging
import math
import warnings

import pytest
import torch

import gradtrace
from gradtrace.errors import FindingError
from gradtrace.norms import final_norms
from tests.integrations.training import NAMES, Model, read_events, rows, same

pytestmark = pytest.mark.filterwarnings("default")  # the trainers' own


def in_lightning(folder, watch, steps, broken=()):
    from lightning import pytorch as pl
    from lightning.pytorch.loggers import TensorBoardLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Model().net
            self.whole = [Model(broken)]
            self.whole[0].net = self.net

        def training_step(self, batch, _):
            return self.whole[0](**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    module = Module()
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=TensorBoardLogger(folder), callbacks=watch and [watch],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(rows(64), batch_size=8))
    return module


def in_transformers(folder, watch, steps, broken=()):
    from transformers import Trainer, TrainingArguments

    model = Model(broken)
    arguments = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=8, report_to="tensorboard", use_cpu=True,
        save_strategy="no", logging_strategy="no", disable_tqdm=True, max_grad_norm=0.0,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows(64), callbacks=watch and [watch]).train()
    return model


def in_accelerate(folder, watch, steps, broken=()):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=folder)
    accelerator.init_trackers("run")
    model = Model(broken)
    parts = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.01))

    def train(done):
        for step in range(steps):
            data = torch.utils.data.default_collate(rows(64)[8 * (step % 8) :][:8])
            parts[1].zero_grad()
            accelerator.backward(parts[0](**data)["loss"])
            parts[1].step()
            done()

    if watch:
        from gradtrace.integrations.accelerate import watch as watching

        with watching(accelerator, parts[0], **watch) as steps_watched:
            train(steps_watched.step)
    else:
        train(lambda: None)
    accelerator.end_training()
    return model


def in_ignite(folder, watch, steps, broken=()):
    from ignite.engine import Engine
    from ignite.handlers import TensorboardLogger

    model = Model(broken)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def update(_, data):
        optimizer.zero_grad()
        loss = model(**data)["loss"]
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(update)
    logger = TensorboardLogger(str(folder))
    if watch:
        watch.attach(engine, model, logger)
    engine.run(torch.utils.data.DataLoader(rows(64), batch_size=8), max_iters=steps)
    logger.close()
    return model


def lightning_watch(**options):
    from gradtrace.integrations.lightning import Watch

    return Watch(**options)


def transformers_watch(**options):
    from gradtrace.integrations.transformers import Watch

    return Watch(**options)


def ignite_watch(**options):
    from gradtrace.integrations.ignite import Watch

    return Watch(**options)


TRAINERS = {
    "lightning": (in_lightning, lightning_watch),
    "transformers": (in_transformers, transformers_watch),
    "accelerate": (in_accelerate, dict),
    "ignite": (in_ignite, ignite_watch),
}
every_trainer = pytest.mark.parametrize(("train", "watch"), TRAINERS.values(), ids=TRAINERS)


def same_parameters(one, other):
    return all(map(torch.equal, one.parameters(), other.parameters()))


@every_trainer
def test_a_training_is_the_same_to_the_bit_and_the_loggers_hold_the_numbers_of_the_trace(train, watch, tmp_path):
    watched = train(tmp_path, watch(every=5, also=(1,), out=tmp_path / "traces" / "{step}.json"), 10)
    assert same_parameters(watched, train(tmp_path / "plain", None, 10))
    assert "training_step" not in vars(torch.nn.Module)
    scalars, media = read_events(tmp_path)
    scalars = {tag.removeprefix("train/"): values for tag, values in scalars.items()}
    for step in (1, 5, 10):
        norms = final_norms(gradtrace.load(tmp_path / "traces" / f"{step}.json"))
        assert sorted(norms) == sorted(NAMES)
        for name, norm in norms.items():
            assert same(scalars[f"gradtrace/norm/{name}"][step], norm)
        assert scalars["gradtrace/findings"][step] == 0
    assert list(scalars["gradtrace/norm/net.0.weight"]) == [1, 5, 10]
    (picture,) = media["gradtrace/picture"].values()
    assert picture.startswith(b"\x89PNG")


@pytest.mark.slow
@every_trainer
def test_a_training_of_200_steps_ends_with_the_same_parameters_to_the_bit(train, watch, tmp_path):
    watched = train(tmp_path / "watched", watch(every=50), 200)
    assert same_parameters(watched, train(tmp_path / "plain", None, 200))


@every_trainer
def test_nan_and_findings_are_logged(train, watch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(tmp_path, watch(every=3, also=(), on_finding="ignore"), 3, broken={3})
    scalars, media = read_events(tmp_path)
    scalars = {tag.removeprefix("train/"): values for tag, values in scalars.items()}
    assert math.isnan(scalars["gradtrace/norm/net.2.bias"][3])
    assert scalars["gradtrace/findings"][3] > 0
    (text,) = media["gradtrace/findings/text_summary"][3]
    assert b"nonfinite" in text


@every_trainer
def test_a_finding_ends_the_training_on_request_and_leaves_nothing_behind(train, watch, tmp_path):
    with warnings.catch_warnings(), pytest.raises(FindingError, match="step 2: "):
        warnings.simplefilter("ignore")
        train(tmp_path, watch(every=2, also=(), on_finding="raise"), 4, broken={2})
    assert torch.autograd._engine_run_backward.__module__.startswith("torch.")
    assert read_events(tmp_path)[1]["gradtrace/findings/text_summary"]  # logged first


@every_trainer
def test_an_error_of_the_training_leaves_nothing_behind(train, watch, tmp_path, monkeypatch):
    @functools.wraps(Model.forward)  # by whose arguments the Trainer chooses columns
    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(Model, "forward", fail)
    with warnings.catch_warnings(), pytest.raises(ZeroDivisionError):
        warnings.simplefilter("ignore")
        train(tmp_path, watch(every=1), 2)
    assert torch.autograd._engine_run_backward.__module__.startswith("torch.")
