"""The second derivative of sin at π/6: create_graph=True makes the first derivative differentiable, too."""

import torch

x = torch.tensor(torch.pi / 6, requires_grad=True)
y = torch.sin(x)

(first,) = torch.autograd.grad(y, x, create_graph=True)
(second,) = torch.autograd.grad(first, x)
print(f"sin' = cos = {first.item():.4f}, sin'' = -sin = {second.item():.4f}")
