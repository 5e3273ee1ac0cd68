"""One training step of a diffusion model: predict the noise that was added."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 2))
kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 100), 0)

clean, noise = torch.randn(16, 2), torch.randn(16, 2)
time = torch.randint(100, (16, 1))
noisy = kept[time].sqrt() * clean + (1 - kept[time]).sqrt() * noise
predicted = model(torch.cat([noisy, time / 100], dim=1))
loss = nn.functional.mse_loss(predicted, noise)
loss.backward()
print(f"{loss:.4f}")
