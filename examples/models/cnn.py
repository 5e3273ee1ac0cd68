"""A small convolutional network that classifies images."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 10)
)
images, labels = torch.randn(8, 1, 8, 8), torch.randint(10, (8,))

loss = nn.functional.cross_entropy(model(images), labels)
loss.backward()
print(f"{loss:.4f}")
