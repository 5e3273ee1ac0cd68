"""Two processes train one line through a point each: what each computes, and the mean that both step with.

Run it with: torchrun --nproc-per-node 2 examples/ranks.py (python alone makes a world of one process).
"""

import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

if "RANK" in os.environ:
    dist.init_process_group("gloo")
else:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())

model = torch.nn.Linear(1, 1)
torch.nn.init.zeros_(model.weight)
torch.nn.init.zeros_(model.bias)
model = DistributedDataParallel(model)
x = torch.tensor([[1.0 + dist.get_rank()]])  # 1 on rank 0, 2 on rank 1
loss = (model(x) - 3 * x).pow(2).sum()
loss.backward()

print(f"rank {dist.get_rank()}: d loss / d weight is {model.module.weight.grad.item()}")
dist.destroy_process_group()
