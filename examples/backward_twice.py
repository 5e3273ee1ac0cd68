"""Two classic mistakes: a gradient kept by reference, and a second backward pass through a freed graph."""

import torch

x = torch.tensor(3.0, requires_grad=True)
y = x**2

y.backward()
first = x.grad  # no copy: the same tensor under a second name
print("first:", first.item())

x.grad.zero_()  # so this zeroes both; x.grad.clone() or x.grad = None would not
print("first, after zero_():", first.item())

y.backward()  # the tensors that x**2 had saved went with the first pass; retain_graph=True would have kept them
