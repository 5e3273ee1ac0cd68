"""A small network that learns sin in three steps; each step is one backward pass."""

import torch
from torch import nn


class Net(nn.Module):
    """Two layers with a tanh between them."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 16)
        self.head = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one number for each row of ``x``."""
        return self.head(torch.tanh(self.hidden(x)))


torch.manual_seed(0)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.linspace(-3, 3, 32).unsqueeze(1)

for step in range(3):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(net(x), torch.sin(x))
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.4f}")
