"""An LSTM that reads a sequence, with its gradients clipped."""

import torch
from torch import nn

torch.manual_seed(0)
cell, head = nn.LSTMCell(3, 8), nn.Linear(8, 1)
parameters = [*cell.parameters(), *head.parameters()]
sequence, target = torch.randn(12, 4, 3), torch.randn(4, 1)

state = None
for step in sequence:
    state = cell(step, state)
loss = nn.functional.mse_loss(head(state[0]), target)
loss.backward()
norm = nn.utils.clip_grad_norm_(parameters, 1.0)
print(f"{loss:.4f}, norm {norm:.4f}")
