"""Partial derivatives: v is used twice, so its gradient is a sum, 3v² + u = 48 + 2 = 50."""

import torch

u, v = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
f = u**2 + v**3 + u*v  # fmt: skip

f.backward()
print(f"f = {f.item():g}, df/du = {u.grad:g}, df/dv = {v.grad:g}")
