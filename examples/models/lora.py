"""LoRA: the weight is frozen, and only a product of two small matrices is trained."""

import torch
from torch import nn


class LoRA(nn.Module):
    """A frozen linear layer plus a trained correction of rank 2."""

    def __init__(self, layer: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) * 0.1)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))  # zero: at first, nothing changes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the layer plus the correction."""
        return self.layer(x) + x @ self.down.T @ self.up.T


torch.manual_seed(0)
model = nn.Sequential(LoRA(nn.Linear(8, 8)), nn.ReLU(), LoRA(nn.Linear(8, 2)))
loss = nn.functional.mse_loss(model(torch.randn(16, 8)), torch.randn(16, 2))
loss.backward()
print(f"{loss:.4f}")
