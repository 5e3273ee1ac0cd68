"""A small training in each trainer that gradtrace has a callback for, and what TensorBoard read of it."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

NAMES = ("net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias")


class Model(nn.Module):
    """A regression, whose loss at the steps in ``broken`` is infinite."""

    def __init__(self, broken=()):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.broken = broken
        self.calls = 0

    def forward(self, x, labels=None):
        self.calls += 1
        loss = (self.net(x)[:, 0] - labels).square().mean()
        return {"loss": (loss * 0).sqrt() if self.calls in self.broken else loss}


def rows(count):
    """The data: a list of what one row is called by."""
    torch.manual_seed(1)
    xs = torch.randn(count, 4)
    return [{"x": x, "labels": x.sum()} for x in xs]


def read_events(folder):
    """What TensorBoard reads below a folder: of each tag the values by step, and all the tags of pictures and texts."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars, media = {}, {}
    for path in sorted(Path(folder).rglob("*tfevents*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, {}).update((each.step, each.value) for each in events.Scalars(tag))
        for tag in events.Tags()["images"]:
            media.setdefault(tag, {}).update((each.step, each.encoded_image_string) for each in events.Images(tag))
        for tag in events.Tags()["tensors"]:
            found = ((each.step, each.tensor_proto.string_val) for each in events.Tensors(tag))
            media.setdefault(tag, {}).update(found)
    return scalars, media


def same(one, other):
    """Whether two numbers are the same in float32, NaN included."""
    return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-6)
