"""A linear layer with relu and a second layer, trained on squares: gradients of whole matrices."""

import torch
from torch import nn

torch.manual_seed(0)
m = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
x, y = torch.randn(5, 3), torch.randn(5, 1)

loss = nn.functional.mse_loss(m(x), y)
loss.backward()
print(f"{loss:.6f}")
