"""Processes that train together: who this one is, and what their tensors are called and hold."""
