"""Repeated segments: the steps of an RNN, the blocks of a transformer."""
