"""PyTorch's private graph, read only: nodes and edges, sequence numbers, saved tensors, calls of the engine."""
