"""The slope of a whole curve at once: each point of sin gets its own gradient, which is cos."""

import torch

x = torch.linspace(-torch.pi, torch.pi, 100, requires_grad=True)
y = torch.sin(x)

# Only a single number has a gradient. A point of y depends on its own x alone, so the sum mixes nothing.
y.sum().backward()
print("largest distance from cos:", (x.grad - torch.cos(x)).abs().max().item())
