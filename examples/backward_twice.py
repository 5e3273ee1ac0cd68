"""A second backward pass through the same graph fails: the first one has freed the tensors that x**2 saved."""

import torch

x = torch.tensor(3.0, requires_grad=True)
y = x**2

y.backward()  # with retain_graph=True, the second call would work
print("first:", x.grad.item())

y.backward()
