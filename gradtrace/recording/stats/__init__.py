"""Statistics of tensors: a tensor in, ``model.TensorStats`` out."""
