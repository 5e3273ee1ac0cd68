"""The derivative of sin(x / 2√2) at 100 is cos(100 / 2√2) / 2√2 = -0.2469."""

import math

import torch

x = torch.tensor(100.0, requires_grad=True)
angle = x / (2 * math.sqrt(2))
y = torch.sin(angle)

y.backward()
print(x.grad)
