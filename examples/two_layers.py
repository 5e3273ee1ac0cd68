"""A network of two layers, one number wide: every gradient is a product along one path."""

import torch

x, target = torch.tensor(2.0), torch.tensor(1.0)
w1, b1 = torch.tensor(3.0, requires_grad=True), torch.tensor(-1.0, requires_grad=True)
w2, b2 = torch.tensor(0.5, requires_grad=True), torch.tensor(1.5, requires_grad=True)

hidden = torch.relu(w1 * x + b1)  # 5
y = w2 * hidden + b2  # 4
loss = (y - target) ** 2  # 9

loss.backward()
print(f"w1 {w1.grad:g}, b1 {b1.grad:g}, w2 {w2.grad:g}, b2 {b2.grad:g}")
