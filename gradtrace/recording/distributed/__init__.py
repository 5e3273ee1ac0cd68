"""Distributed training: the rank of this process, its wrappers (DDP, FSDP) and its DTensors."""
