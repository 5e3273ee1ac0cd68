"""A parameter that is used at 50 points: the derivative of Σ a·sin(x) by a is Σ sin(x)."""

import torch

x = torch.linspace(0, torch.pi, 50)
a = torch.tensor(1.5, requires_grad=True)
total = (a * torch.sin(x)).sum()

total.backward()
print(f"by backward: {a.grad:.4f}, by the sum: {torch.sin(x).sum():.4f}")
