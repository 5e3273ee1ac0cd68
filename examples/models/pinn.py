"""A physics-informed network for u'' = -u: its loss contains the second derivative of its output."""

import torch
from torch import nn

torch.manual_seed(0)
u = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))  # tanh, since relu has no second derivative
x = torch.linspace(0, 3, 20).unsqueeze(1).requires_grad_()

y = u(x)
(first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
(second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
equation = (second + y).square().mean()
start = y[0].square().sum() + (first[0] - 1).square().sum()  # u(0) = 0, u'(0) = 1
loss = equation + start
loss.backward()
print(f"{loss:.4f}")
