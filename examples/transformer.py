"""Twelve blocks of a transformer: one is drawn in full, the other eleven are one box."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
model = nn.TransformerEncoder(block, 12, enable_nested_tensor=False)

loss = model(torch.randn(2, 5, 16)).square().mean()
loss.backward()
print(f"{loss.item():.6f}")
