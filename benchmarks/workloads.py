"""What to measure on: each workload is one function that returns a step, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

WORKLOADS: dict[str, Callable[..., Callable[[], torch.Tensor]]] = {}


def workload(function: Any) -> Any:
    """Register a workload under its function's name."""
    WORKLOADS[function.__name__.replace("_", "-")] = function
    return function


class Block(nn.Module):
    """A transformer block as GPT-2 has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` of shape (batch, length, width) after attention and the two linear layers."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.first(x)).split(width, dim=-1)
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5
        mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mixed = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden = self.up(self.second(x))
        return x + self.down(0.5 * hidden * (1 + torch.tanh(0.79788456 * (hidden + 0.044715 * hidden**3))))


class GPT(nn.Module):
    """Token and position embeddings, blocks, and a head."""

    def __init__(self, layers: int, width: int, vocabulary: int = 1000, length: int = 128) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.h = nn.ModuleList(Block(width, 8) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits for tokens of shape (batch, length)."""
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.head(self.norm(x))


class Loss(nn.Module):
    """The cross entropy of a model's logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the loss for tokens of shape (batch, length)."""
        return nn.functional.cross_entropy(self.model(tokens).flatten(0, 1), tokens.flatten())


@workload
def gpt(layers: int = 12, width: int = 256) -> Any:
    """GPT-like: 12 layers, width 256, batch 4 of 128 tokens."""
    torch.manual_seed(0)
    model = GPT(layers, width)
    tokens = torch.randint(1000, (4, 128))
    loss_of = Loss(model)

    def step() -> Any:
        loss = loss_of(tokens)
        loss.backward()
        return loss

    step.model, step.inputs = loss_of, tokens  # for those who watch a module rather than a script
    return step


@workload
def gpt2_small(steps: int = 1, layers: int = 12, width: int = 768, device: str = "cuda") -> Any:
    """Steps of a model of GPT-2's size in bfloat16, batch 8 of 1024 tokens, each of which zeroes gradients first."""
    torch.manual_seed(0)
    model = GPT(layers, width, vocabulary=50_257, length=1024).to(device, torch.bfloat16)
    tokens = torch.randint(50_257, (8, 1024), device=device)
    loss_of = Loss(model)

    def step() -> Any:
        for _ in range(steps):
            model.zero_grad()
            loss = loss_of(tokens)
            loss.backward()
        return loss

    return step


@workload
def resnet(blocks: int = 12) -> Any:
    """ResNet-like: 12 blocks of two convolutions, 32 channels of 32 by 32, batch 8."""
    torch.manual_seed(0)
    convolutions = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1, bias=False) for _ in range(2 * blocks))
    norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(2 * blocks))
    images = torch.randn(8, 32, 32, 32)

    def step() -> torch.Tensor:
        x = images
        for index in range(0, 2 * blocks, 2):
            y = norms[index](convolutions[index](x)).relu()
            x = (x + norms[index + 1](convolutions[index + 1](y))).relu()
        loss = x.square().mean()
        loss.backward()
        return loss

    return step


@workload
def lstm(steps: int = 200) -> Any:
    """An LSTM cell, width 64, over 200 steps."""
    torch.manual_seed(0)
    cell, inputs = nn.LSTMCell(64, 64), torch.randn(steps, 8, 64)

    def step() -> torch.Tensor:
        state = (torch.zeros(8, 64), torch.zeros(8, 64))
        for x in inputs:
            state = cell(x, state)
        loss = state[0].square().mean()
        loss.backward()
        return loss

    return step


@workload
def chain(ops: int = 5000) -> Any:
    """A chain of 5,000 scalar ops."""
    x = torch.ones((), requires_grad=True)

    def step() -> torch.Tensor:
        y = x
        for _ in range(ops):
            y = y * 1.0001
        y.backward()
        return y

    return step


@workload
def fan_in(uses: int = 2000) -> Any:
    """One parameter used 2,000 times."""
    x = torch.ones(16, requires_grad=True)

    def step() -> torch.Tensor:
        loss = torch.stack([x.sin() for _ in range(uses)]).sum()
        loss.backward()
        return loss

    return step


@workload
def mlp_beside(others: int = 1000, steps: int = 50) -> Any:
    """Steps of a small MLP in a module and a namespace that hold many other modules, parameters and variables."""
    torch.manual_seed(0)
    model = nn.Module()
    model.used = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
    model.others = nn.ModuleList(nn.Linear(4, 4) for _ in range(others))
    space: dict[str, Any] = {f"tensor{index}": torch.zeros(1) for index in range(others)}
    space |= {f"number{index}": index for index in range(others)}
    space |= {"model": model, "x": torch.randn(64, 16)}
    lines = "model.used.zero_grad()", "loss = model.used(x).square().mean()", "loss.backward()"
    code = compile(f"for _ in range({steps}):\n    " + "\n    ".join(lines), "beside.py", "exec")

    def step() -> torch.Tensor:
        exec(code, space)  # noqa: S102 - a script of which all variables are known
        return space["loss"]

    return step


@workload
def mlp_loop(steps: int = 200) -> Any:
    """200 training steps of a small MLP."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(64, 16), torch.randn(64, 1)

    def step() -> torch.Tensor:
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
        return loss

    return step
