"""One step of a GAN: a pass for the discriminator, and one for the generator."""

import torch
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
discriminator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
of_generator = torch.optim.Adam(generator.parameters(), lr=1e-3)
of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
real, noise = torch.randn(16, 2) + 3, torch.randn(16, 2)
score = nn.functional.binary_cross_entropy_with_logits

fake = generator(noise)
of_discriminator.zero_grad()
real_loss = score(discriminator(real), torch.ones(16, 1))
fake_loss = score(discriminator(fake.detach()), torch.zeros(16, 1))  # detach: no gradient for the generator
(real_loss + fake_loss).backward()
of_discriminator.step()

of_generator.zero_grad()
loss = score(discriminator(fake), torch.ones(16, 1))  # after the step, through the new discriminator
loss.backward()
of_generator.step()
print(f"{(real_loss + fake_loss):.4f} {loss:.4f}")
