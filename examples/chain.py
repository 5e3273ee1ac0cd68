"""The chain rule: (3x + 1)² at 2 has the slope 2·7 · 3 = 42."""

import torch

x = torch.tensor(2.0, requires_grad=True)
inner = 3 * x + 1
y = inner**2

y.backward()
print(x.grad)
