"""A derivative of a derivative: create_graph=True records the first backward pass, so that it has one itself."""

import torch

x = torch.tensor(torch.pi / 4, requires_grad=True)
y = torch.sin(x)

(first,) = torch.autograd.grad(y, x, create_graph=True)
(second,) = torch.autograd.grad(first, x)
print(f"sin' = cos = {first.item():.4f}, sin'' = -sin = {second.item():.4f}")
