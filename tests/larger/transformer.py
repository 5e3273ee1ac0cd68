"""Ten steps of a small language model from the transformers package, with random weights and dropout."""

import sys

import torch
from trainings import bits, digest
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=32, n_layer=2, n_head=2))
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
tokens = torch.randint(0, 100, (4, 32))
for _ in range(10):
    optimizer.zero_grad()
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(loss.item())
print(digest(map(bits, [*model.state_dict().values(), torch.get_rng_state()])))
