"""backward() adds to .grad: three passes without zeroing, then what a second name for .grad shows."""

import torch

x = torch.tensor(3.0, requires_grad=True)

for step in range(3):  # in each pass, 2x = 6 arrives at x
    (x**2).backward()
    print(f"pass {step + 1}: x.grad = {x.grad:g}")

kept = x.grad  # no copy: a second name for the same tensor
x.grad.zero_()
print(f"kept = {kept:g}")

x.grad = None  # what optimizer.zero_grad(set_to_none=True) does: the next pass makes a new tensor
(x**2).backward()
print(f"x.grad = {x.grad:g}, kept = {kept:g}")
