"""Two ways lead from f to v: 3v² = 48 along one, u = 2 along the other, 50 together."""

import torch

u, v = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
f = u**2 + v**3 + u*v  # fmt: skip

f.backward()
print(f"f = {f.item():g}, df/du = {u.grad:g}, df/dv = {v.grad:g}")
