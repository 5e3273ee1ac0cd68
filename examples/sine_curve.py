"""The derivative of sin at 100 points in one backward pass: cos."""

import torch

x = torch.linspace(-torch.pi, torch.pi, 100, requires_grad=True)
y = torch.sin(x)

# backward() needs a single number. Each y depends on its own x only, so the sum does not mix the points.
y.sum().backward()
print("largest distance from cos:", (x.grad - torch.cos(x)).abs().max().item())
