"""The derivative of x² at 9 is 2x = 18."""

import torch

x = torch.tensor(9.0, requires_grad=True)
y = x**2

y.backward()
print(x.grad)
