"""Policy gradient (REINFORCE): make the actions with a high return more likely."""

import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
states, returns = torch.randn(10, 4), torch.randn(10)

distribution = torch.distributions.Categorical(logits=policy(states))
actions = distribution.sample()
loss = -(distribution.log_prob(actions) * returns).mean()  # a return is a number: no gradient goes into it
loss.backward()
print(f"{loss:.4f}")
