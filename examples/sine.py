"""The chain rule: sin(x / 2√2) has the slope cos(x / 2√2) / 2√2, which is -0.2469 at 100."""

import math

import torch

x = torch.tensor(100.0, requires_grad=True)
angle = x / (2 * math.sqrt(2))
y = torch.sin(angle)

y.backward()
print(x.grad)
