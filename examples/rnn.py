"""A hundred steps of an RNN, drawn as one box: the gradient vanishes towards the first step."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
cell, head = nn.RNNCell(4, 16), nn.Linear(16, 1)
state = torch.zeros(1, 16)
for _ in range(100):
    state = cell(torch.randn(1, 4), state)

loss = head(state).square().sum()
loss.backward()
print(f"{loss.item():.6f}")
