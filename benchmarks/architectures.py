"""Networks whose backward passes a picture has to show: narrow, with the graph of the real ones."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

if TYPE_CHECKING:
    from collections.abc import Callable

Made = torch.Tensor


class Bottleneck(nn.Module):
    """A block of ResNet-50."""

    def __init__(self, inner: int, width: int, before: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.downsample = shortcut if stride > 1 or before != width else None

    def forward(self, x: Made) -> Made:
        """Return the output."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """ResNet-50: 3, 4, 6 and 3 blocks."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        before = width
        for at, blocks in enumerate((3, 4, 6, 3)):
            inner, layers = width * 2**at, []
            for block in range(blocks):
                layers.append(Bottleneck(inner, 4 * inner, before, 2 if at and not block else 1))
                before = 4 * inner
            setattr(self, f"layer{at + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(before, 10)

    def forward(self, x: Made) -> Made:
        """Return the logits."""
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean((2, 3)))


class UNet(nn.Module):
    """A UNet of so many levels, of two convolutions each."""

    def __init__(self, levels: int = 3, width: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(double(a, b) for a, b in pairwise([1, *sizes]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(sizes))
        self.merge = nn.ModuleList(double(2 * a, a) for a in sizes[:-1])
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Made) -> Made:
        """Return an image of the size of ``x``."""
        seen: list[Made] = []
        for at, block in enumerate(self.down):
            x = block(x if not at else nn.functional.max_pool2d(x, 2))
            seen.append(x)
        x = seen.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([seen.pop(), up(x)], 1))
        return self.out(x)


def double(before: int, after: int) -> nn.Module:
    """Return two convolutions with their norms."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
    )  # fmt: skip


class Skips(nn.Module):
    """A U-shaped net of linear layers: the first feeds the last."""

    def __init__(self, levels: int = 8, width: int = 16) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(levels))
        self.up = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(levels))

    def forward(self, x: Made) -> Made:
        """Return an output of the size of ``x``."""
        seen = []
        for layer in self.down:
            x = torch.tanh(layer(x))
            seen.append(x)
        for layer in self.up:
            x = torch.tanh(layer(torch.cat([x, seen.pop()], 1)))
        return x


class BiLSTM(nn.Module):
    """A bidirectional LSTM of cells, with an embedding and a head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(50, width), nn.LSTM(width, width, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, width)

    def forward(self, tokens: Made) -> Made:
        """Return one vector for each text."""
        return self.head(self.lstm(self.embed(tokens))[0].mean(1))


class CellLSTM(nn.Module):
    """Two LSTM cells, one for each direction, over a few steps."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.forth, self.back = nn.LSTMCell(width, width), nn.LSTMCell(width, width)

    def forward(self, x: Made) -> Made:
        """Return the states of all steps of ``x`` of shape (steps, batch, width)."""
        return torch.cat([self.walk(self.forth, x), self.walk(self.back, x.flip(0)).flip(0)], -1)

    def walk(self, cell: nn.LSTMCell, x: Made) -> Made:
        """Return the states of one direction."""
        h = c = torch.zeros(x.shape[1], x.shape[2])
        found = []
        for step in x:
            h, c = cell(step, (h, c))
            found.append(h)
        return torch.stack(found)


class ViT(nn.Module):
    """A vision transformer of PyTorch's own layers."""

    def __init__(self, layers: int = 6, width: int = 16) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 17, width))
        one = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(one, layers, enable_nested_tensor=False), nn.Linear(width, 10)

    def forward(self, x: Made) -> Made:
        """Return the logits."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.encoder(x)[:, 0])


class Experts(nn.Module):
    """A mixture of experts in which each token goes to two."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(count)
        )

    def forward(self, x: Made) -> Made:
        """Return the output."""
        weight, chosen = self.gate(x).softmax(-1).topk(2)
        out = torch.zeros_like(x)
        for at, expert in enumerate(self.experts):
            token, place = (chosen == at).nonzero(as_tuple=True)
            out = out.index_add(0, token, expert(x[token]) * weight[token, place, None])
        return x + out


class Coupling(nn.Module):
    """An affine coupling layer of a normalizing flow."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 2 * width))

    def forward(self, x: Made) -> tuple[Made, Made]:
        """Return the output, its halves swapped, and the logarithm of the determinant."""
        one, two = x.chunk(2, 1)
        scale, shift = self.net(one).chunk(2, 1)
        scale = torch.tanh(scale)
        return torch.cat([two * torch.exp(scale) + shift, one], 1), scale.sum(1)


class Denoiser(nn.Module):
    """A UNet with the time's embedding in each of its blocks, as diffusion models have it."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width))
        self.enter, self.leave = nn.Conv2d(1, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1)
        self.down = nn.ModuleList(TimedBlock(width) for _ in range(4))
        self.middle, self.up = TimedBlock(width), nn.ModuleList(TimedBlock(width) for _ in range(4))

    def forward(self, x: Made, time: Made) -> Made:
        """Return the noise."""
        angles = time[:, None] * torch.arange(1, 5)
        at, x, seen = self.time(torch.cat([angles.sin(), angles.cos()], 1)), self.enter(x), []
        for block in self.down:
            x = block(x, at)
            seen.append(x)
            x = nn.functional.avg_pool2d(x, 2)
        x = self.middle(x, at)
        for block in self.up:
            x = block(interpolate(x, scale_factor=2) + seen.pop(), at)
        return self.leave(x)


class TimedBlock(nn.Module):
    """A residual block with an attention over its pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, width), nn.Conv2d(width, width, 3, padding=1)
        self.time, self.norm2 = nn.Linear(width, width), nn.GroupNorm(2, width)
        self.conv2, self.qkv = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 3 * width, 1)

    def forward(self, x: Made, time: Made) -> Made:
        """Return the output for ``x`` of shape (batch, channels, height, width)."""
        h = self.conv1(nn.functional.silu(self.norm1(x))) + self.time(nn.functional.silu(time))[:, :, None, None]
        h = x + self.conv2(nn.functional.silu(self.norm2(h)))
        q, k, v = self.qkv(h).flatten(2).chunk(3, 1)
        mixed = (q.transpose(1, 2) @ k / h.shape[1] ** 0.5).softmax(-1) @ v.transpose(1, 2)
        return h + mixed.transpose(1, 2).reshape(h.shape)


def classified(model: nn.Module, size: int) -> Made:
    """Return the loss of a classifier of images."""
    return cross_entropy(model(torch.randn(2, 3, size, size)), torch.tensor([1, 2]))


def sigmoids(layers: int = 30) -> Made:
    """Return the loss of so many equal sigmoid layers."""
    parts = [part for _ in range(layers) for part in (nn.Linear(16, 16), nn.Sigmoid())]
    return nn.Sequential(*parts, nn.Linear(16, 1))(torch.randn(4, 16)).square().mean()


def twice(model: nn.Module) -> Made:
    """Return the distance of two texts that one model reads."""
    return (model(torch.randint(50, (2, 6))) - model(torch.randint(50, (2, 6)))).square().sum(1).mean()


def gan() -> Made:
    """Return a generator's loss: through the discriminator."""

    def stack(*sizes: int) -> nn.Module:
        pairs = pairwise(sizes)
        return nn.Sequential(*(part for a, b in pairs for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))))

    generator, discriminator = nn.Sequential(stack(8, 32, 64), nn.Linear(64, 16), nn.Tanh()), stack(16, 64, 32, 1)
    fake, real = generator(torch.randn(4, 8)), torch.randn(4, 16)
    bce = nn.functional.binary_cross_entropy_with_logits
    return bce(discriminator(fake), torch.ones(4, 1)) + bce(discriminator(real), torch.ones(4, 1))


def flow(layers: int = 6) -> Made:
    """Return the negative log-likelihood of a normalizing flow."""
    x, total = torch.randn(8, 4), torch.zeros(8)
    for layer in nn.ModuleList(Coupling(2, 16) for _ in range(layers)):
        x, change = layer(x)
        total = total + change
    return (x.square().sum(1) / 2 - total).mean()


def pinn() -> Made:
    """Return the loss of a physics-informed net: the heat equation, by two derivatives of the net."""
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    x, t = torch.rand(16, 1, requires_grad=True), torch.rand(16, 1, requires_grad=True)
    u = net(torch.cat([x, t], 1))
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
    return (u_t - 0.1 * u_xx).square().mean()


def diffusion() -> Made:
    """Return the loss of one step of a diffusion model."""
    image, noise, time = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16), torch.tensor([3.0, 7.0])
    return (Denoiser()(image + noise, time) - noise).square().mean()


ARCHITECTURES: dict[str, Callable[[], Made]] = {
    "resnet-50": lambda: classified(ResNet50(), 32),
    "mlp-30": sigmoids,
    "bilstm-twice": lambda: twice(BiLSTM()),
    "bilstm-cells": lambda: CellLSTM()(torch.randn(5, 2, 8)).square().mean(),
    "unet": lambda: (UNet()(torch.randn(2, 1, 16, 16))).square().mean(),
    "skips": lambda: Skips()(torch.randn(4, 16)).square().mean(),
    "gan": gan,
    "vit": lambda: classified(ViT(), 16),
    "moe-4": lambda: Experts(8, 4)(torch.randn(32, 8)).square().mean(),
    "flow": flow,
    "pinn": pinn,
    "diffusion": diffusion,
}
