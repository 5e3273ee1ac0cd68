"""A language model of one transformer block that predicts the next token."""

import torch
from torch import nn

torch.manual_seed(0)
tokens = torch.randint(20, (2, 9))
embed = nn.Embedding(20, 16)
block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
head = nn.Linear(16, 20)

mask = nn.Transformer.generate_square_subsequent_mask(8)
logits = head(block(embed(tokens[:, :-1]), src_mask=mask, is_causal=True))
loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
loss.backward()
print(f"{loss:.4f}")
